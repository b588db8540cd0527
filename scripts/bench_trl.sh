#!/usr/bin/env bash
# A step of TRL's GRPOTrainer and one of ours at the same work, one after the other, on a machine that does nothing else.
# TRL has an environment of its own (artifacts/trl): beside it verl 0.9.1 imports what TRL no longer has, and does not start.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
export BALANCED_AGG_ROOT="${BALANCED_AGG_ROOT:-$root}"
bash scripts/setup.sh
.venv/bin/python -W ignore -m balanced_agg prepare arithmetic
trl=artifacts/trl/bin/python
if ! "$trl" -c "import trl, datasets" 2>/dev/null; then
  .venv/bin/python -m venv artifacts/trl
  "$trl" -m pip install -q -c <(sed 's/ .*//' requirements-cpu.lock) trl==1.16.0 accelerate datasets torch transformers
fi
echo "TRL"
PYTHONPATH=. "$trl" -W ignore scripts/bench_trl.py
echo "verl with balanced_agg"
.venv/bin/python -m balanced_agg follow "$BALANCED_AGG_ROOT/outputs/bench_trl" -- \
  .venv/bin/python -m balanced_agg train arithmetic "run.dir=\${run.root}/outputs/bench_trl" \
  data.train_batch_size=32 actor_rollout_ref.actor.ppo_mini_batch_size=32 \
  trainer.total_training_steps=8 trainer.test_freq=-1 trainer.save_freq=-1 trainer.val_before_train=false \
  trainer.resume_mode=disable "$@"
