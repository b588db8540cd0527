#!/usr/bin/env bash
# Start the head of a Ray cluster, or join one as a worker, in the foreground; Ctrl-C or SIGTERM ends the node.
#   scripts/ray_cluster.sh head [--node-ip-address IP] [options of `ray start`…]
#   scripts/ray_cluster.sh worker HEAD[:PORT] [--wait SECONDS] [options of `ray start`…]
#   RAY_AUTH_TOKEN_PATH   file of mode 600 with the cluster's token (default: ~/.ray/auth_token); the head makes it
#   VERL_PYTHON   interpreter of the environment that has verl (default: that of .venv, else python3)
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=$root/.venv/bin/python
[ -x "$python" ] || python=python3
exec "${VERL_PYTHON:-$python}" -m balanced_agg.commands.cluster.node "$@"
