#!/usr/bin/env bash
# What a machine with a GPU shows in one call, some ten minutes: the loss and verl's FSDP2 engine against float64, the time
# of the loss, and two training steps of qwen3_1.7b_dapo17k cut to 8 prompts. Needs `balanced-agg prepare dapo17k`.
#   scripts/gpu_check.sh [overrides of the training run…]
# Prints a table; everything else stays in outputs/gpu_check. Exit status 1 if a part failed; the others run all the same.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
out=${BALANCED_AGG_ROOT:-$root}/outputs/gpu_check
python=$root/.venv-gpu/bin/python
[ -x "$python" ] || python=python3
export VERL_PYTHON="${VERL_PYTHON:-$python}"
python=$VERL_PYTHON
mkdir -p "$out"
cd "$root"

failed=()
part() {  # NAME COMMAND…: its output in NAME.log
  local name=$1 start=$SECONDS
  shift
  "$@" >"$out/$name.log" 2>&1 || failed+=("$name")
  echo "$name: $((SECONDS - start)) s, $out/$name.log" >&2
}

attention=flash_attention_2
"$python" -c "import flash_attn" 2>/dev/null || attention=sdpa
cut=(
  run.name=gpu_check "run.dir=\${run.root}/outputs/gpu_check" "trainer.logger=[console,file]"
  trainer.total_training_steps=2 trainer.test_freq=-1 trainer.save_freq=-1 trainer.val_before_train=false
  data.train_batch_size=8 actor_rollout_ref.actor.ppo_mini_batch_size=4
  data.max_response_length=2048 reward.reward_kwargs.overlong_buffer_cfg.len=1024
  "data.val_files=\${data.train_files}" "++actor_rollout_ref.model.override_config.attn_implementation=$attention"
)
part loss "$python" -m pytest -q -m gpu tests/loss
part engine "$python" -m tests.plugin.loss.engine_gradient
part time "$python" scripts/bench_aggregation.py --device cuda
part train bash scripts/train.sh qwen3_1.7b_dapo17k hardware=1gpu "${cut[@]}" "$@"

"$python" scripts/gpu_check_table.py "$out" "$attention" "${failed[@]}"
[ ${#failed[@]} -eq 0 ]
