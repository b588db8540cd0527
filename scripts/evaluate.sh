#!/usr/bin/env bash
# Evaluate a checkpoint or a model by a recipe's validation, and write a table of it beside the weights.
#   scripts/evaluate.sh CHECKPOINT|MODEL [--recipe RECIPE] [--json] [overrides…]
#   scripts/evaluate.sh outputs/arithmetic-balanced-seed1/checkpoints/global_step_40
#   VERL_PYTHON   interpreter of the environment that has verl (default: that of .venv, else python3)
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=$root/.venv/bin/python
[ -x "$python" ] || python=python3
exec "${VERL_PYTHON:-$python}" -m balanced_agg.commands.evaluate "$@"
