#!/usr/bin/env bash
# Evaluate a checkpoint or a model by a recipe's validation, and write a table of it beside the weights.
#   scripts/evaluate.sh CHECKPOINT|MODEL [--recipe RECIPE] [--json] [overrides…]
#   scripts/evaluate.sh outputs/arithmetic-balanced-seed1/checkpoints/global_step_40
set -euo pipefail
exec bash "$(dirname "${BASH_SOURCE[0]}")/balanced-agg.sh" evaluate "$@"
