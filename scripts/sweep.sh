#!/usr/bin/env bash
# Train a recipe under several aggregation rules and seeds, then compare them. The same command resumes a sweep.
#   scripts/sweep.sh RECIPE --modes MODE… --seeds SEED… [--dir DIR] [--ray-address URL] [--dry-run] [--json] [overrides…]
#   scripts/sweep.sh arithmetic --modes balanced token sequence --seeds 0 1 2
#   VERL_PYTHON   interpreter of the environment that has verl (default: that of .venv, else python3)
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=$root/.venv/bin/python
[ -x "$python" ] || python=python3
exec "${VERL_PYTHON:-$python}" -m balanced_agg.commands.sweep "$@"
