#!/usr/bin/env bash
# Build the tested CPU environment in .venv; seconds when it is already there.
#   PYTHON   interpreter to build it with (default: python3.11, else python3)
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=$root/.venv
lock=$root/requirements-cpu.lock
stamp=$venv/.installed
torch=$(grep '^torch==' "$lock")

wanted=$(cat "$lock" "$root/pyproject.toml" "${BASH_SOURCE[0]}" | sha256sum)
if [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then
  exit 0
fi

python=${PYTHON:-$(command -v python3.11 || command -v python3 || true)}
if [ "$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)" != "3.11" ]; then
  echo "setup: the locked environment needs Python 3.11, and ${python:-python3} is not; set PYTHON to one that is" >&2
  exit 1
fi

echo "setup: building $venv (about 2 minutes)"
rm -rf "$venv"
"$python" -m venv "$venv"
pip=("$venv/bin/python" -m pip --disable-pip-version-check -qq install --no-deps)
# The +cpu build is not on PyPI: take it from where pip is configured to look, else from PyTorch's own CPU index.
"${pip[@]}" "$torch" 2>/dev/null || "${pip[@]}" "$torch" --index-url https://download.pytorch.org/whl/cpu
# Four packages come as source. setuptools, which builds them, is the locked one, too.
"${pip[@]}" --require-hashes --requirement <(grep '^setuptools==' "$lock")
"${pip[@]}" --require-hashes --no-build-isolation --use-pep517 --requirement <(grep -v '^torch==' "$lock")
"${pip[@]}" --no-build-isolation --editable "$root"
echo "$wanted" >"$stamp"
echo "setup: done"
