#!/usr/bin/env bash
# The command `balanced-agg` in the environment of this checkout; the other scripts are names for its subcommands.
#   VERL_PYTHON         interpreter of the environment that has verl (default: that of .venv, else python3)
#   BALANCED_AGG_ROOT   working directory of runs, with artifacts/ and outputs/ in it (default: this checkout)
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=$root/.venv/bin/python
[ -x "$python" ] || python=python3
export BALANCED_AGG_ROOT="${BALANCED_AGG_ROOT:-$root}"
exec "${VERL_PYTHON:-$python}" -m balanced_agg "$@"
