#!/usr/bin/env bash
# Start the head of a Ray cluster, or join one as a worker, in the foreground; Ctrl-C or SIGTERM ends the node.
#   scripts/ray_cluster.sh head [--node-ip-address IP] [options of `ray start`…]
#   scripts/ray_cluster.sh worker HEAD[:PORT] [--wait SECONDS] [options of `ray start`…]
#   RAY_AUTH_TOKEN_PATH   file of mode 600 with the cluster's token (default: ~/.ray/auth_token); the head makes it
set -euo pipefail
exec bash "$(dirname "${BASH_SOURCE[0]}")/balanced-agg.sh" node "$@"
