#!/usr/bin/env bash
# Build the tested environment; seconds when it is already there.
#   scripts/setup.sh          without a GPU: .venv from requirements-cpu.lock
#   scripts/setup.sh --gpu    for NVIDIA GPUs: .venv-gpu from requirements-gpu.lock
#   PYTHON   interpreter to build it with (default: the first on the PATH that fits, else one that `uv` brings)
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=$(command -v python3 || uv python find 2>/dev/null || true)
: "${python:?setup: needs Python: install it, or \`uv\` and with that \`uv python install 3.12\`}"
exec "$python" "$root/scripts/build_environment.py" "$@"
