#!/usr/bin/env bash
# Train a recipe on a running Ray cluster, as a job that ends with this command.
#   scripts/submit.sh RECIPE [--ray-address http://HEAD:8265] [--nodes N] [--wait SECONDS] [overrides…]
#   RAY_API_SERVER_ADDRESS, RAY_AUTH_TOKEN_PATH   Ray's own: the cluster, and the file with its token
set -euo pipefail
exec bash "$(dirname "${BASH_SOURCE[0]}")/balanced-agg.sh" submit "$@"
