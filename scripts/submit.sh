#!/usr/bin/env bash
# Train a recipe on a Ray cluster that is there, as a job; it ends with its submitter, and so does its output.
#   scripts/submit.sh RECIPE [--ray-address http://HEAD:8265] [--nodes N] [--wait SECONDS] [overrides…]
#   RAY_API_SERVER_ADDRESS, RAY_AUTH_TOKEN_PATH   Ray's own: the cluster, and the file with its token
#   VERL_PYTHON   interpreter of the environment that has verl (default: that of .venv, else python3)
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=$root/.venv/bin/python
[ -x "$python" ] || python=python3
exec "${VERL_PYTHON:-$python}" -m balanced_agg.commands.cluster.submit "$@"
