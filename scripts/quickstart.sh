#!/usr/bin/env bash
# From a fresh clone to a finished run on a laptop CPU: environment, data, warm start, half of the recipe's GRPO steps under
# Balanced Aggregation with validation before, during and after. Overrides are handed to the recipe.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
export BALANCED_AGG_ROOT="${BALANCED_AGG_ROOT:-$root}"
echo "quickstart: 1/3 environment (.venv)"
bash scripts/setup.sh
echo "quickstart: 2/3 data and warm start (artifacts/arithmetic)"
.venv/bin/python -W ignore -m balanced_agg prepare arithmetic
echo "quickstart: 3/3 training: half a minute until the first step (Ray, vLLM, FSDP)"
.venv/bin/python -m balanced_agg follow "$BALANCED_AGG_ROOT/outputs/quickstart" -- \
  .venv/bin/python -m balanced_agg train arithmetic "run.dir=\${run.root}/outputs/quickstart" trainer.resume_mode=disable \
  trainer.total_training_steps=20 trainer.test_freq=10 "$@"
cat <<'EOF'

what next:
  another aggregation   bash scripts/train.sh arithmetic aggregation=token
  compare aggregations  bash scripts/sweep.sh arithmetic --aggregations balanced token sequence --seeds 1 2 3
  your own verl run     pip install . beside your verl; balanced-agg inspect ROLLOUTS says what would change, and
                        actor_rollout_ref.actor.loss_agg_mode=balanced changes it
EOF
