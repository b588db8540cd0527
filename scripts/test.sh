#!/usr/bin/env bash
# Build the environment and run the tests: the fast tier, or with --slow both tiers, real end-to-end runs included.
# Further arguments go to pytest.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
bash scripts/setup.sh
tier=(-m "not slow")
if [ "${1:-}" = "--slow" ]; then
  tier=()
  shift
fi
exec .venv/bin/python -m pytest "${tier[@]}" "$@"
