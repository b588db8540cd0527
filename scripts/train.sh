#!/usr/bin/env bash
# Train a recipe with verl's own entry point; the environment and BALANCED_AGG_ROOT as in balanced-agg.sh.
#   scripts/train.sh RECIPE [overrides…]        e.g. scripts/train.sh arithmetic aggregation=token run.seed=2
#   scripts/train.sh RECIPE --cfg job [--resolve]   print the composed config and start nothing
set -euo pipefail
exec bash "$(dirname "${BASH_SOURCE[0]}")/balanced-agg.sh" train "$@"
