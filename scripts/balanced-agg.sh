#!/usr/bin/env bash
# The command `balanced-agg` in an environment of this checkout; the other scripts are names for its subcommands.
#   VERL_PYTHON         interpreter of the environment that has verl (default: that of .venv-gpu, .venv or python3, the
#                       first that is there; for hardware=cpu, which some recipes name, .venv comes first)
#   BALANCED_AGG_ROOT   working directory of runs, with artifacts/ and outputs/ in it (default: this checkout)
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
hardware=
for word in "$@"; do
  recipe=$root/recipes/$word.yaml
  case $word in
    hardware=*) hardware=${word#*=} ;;
    *) [ ! -f "$recipe" ] || hardware=$(sed -n 's/^ *- override hardware: *//p' "$recipe") ;;
  esac
done
environments=(.venv .venv-gpu)  # of which the last that is there is taken
[ "$hardware" != cpu ] || environments=(.venv-gpu .venv)
python=python3
for environment in "${environments[@]}"; do
  [ ! -x "$root/$environment/bin/python" ] || python=$root/$environment/bin/python
done
export BALANCED_AGG_ROOT="${BALANCED_AGG_ROOT:-$root}"
exec "${VERL_PYTHON:-$python}" -m balanced_agg "$@"
