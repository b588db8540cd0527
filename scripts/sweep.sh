#!/usr/bin/env bash
# Train a recipe under several aggregations and seeds, then compare them. The same command resumes a sweep.
#   scripts/sweep.sh RECIPE --aggregations AGGREGATION… --seeds SEED… [--dir DIR] [--ray-address URL] [--dry-run] [overrides…]
#   scripts/sweep.sh arithmetic --aggregations balanced token sequence --seeds 0 1 2
set -euo pipefail
exec bash "$(dirname "${BASH_SOURCE[0]}")/balanced-agg.sh" sweep "$@"
