#!/usr/bin/env bash
# Train a recipe with verl's own entry point.
#   scripts/train.sh RECIPE [overrides…]        e.g. scripts/train.sh arithmetic aggregation=token run.seed=2
#   scripts/train.sh RECIPE --cfg job [--resolve]   print the composed config and start nothing
#   VERL_PYTHON   interpreter of the environment that has verl (default: that of .venv, else python3)
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
recipe=${1:-}
if [ ! -f "$root/recipes/$recipe.yaml" ]; then
  echo "usage: scripts/train.sh RECIPE [overrides…]; recipes: $(basename --suffix .yaml "$root"/recipes/*.yaml | xargs)" >&2
  exit 2
fi
shift
python=$root/.venv/bin/python
[ -x "$python" ] || python=python3

# Without an accelerator verl has to be told; see configs/hardware/cpu.yaml.
if [ -z "${VERL_PLATFORM:-}" ] && ! command -v nvidia-smi rocm-smi npu-smi >/dev/null; then
  export VERL_PLATFORM=cpu
fi
# Launch checks and guard are parts of the plugin that have to be asked for, from the first process on.
export BALANCED_AGG_CHECKS="${BALANCED_AGG_CHECKS:-1}" BALANCED_AGG_GUARD="${BALANCED_AGG_GUARD:-1}"
# A run talks to no one but the loggers it was told to use.
export RAY_USAGE_STATS_ENABLED="${RAY_USAGE_STATS_ENABLED:-0}"
cd "$root"
commit=$(git describe --always --dirty --exclude '*' 2>/dev/null || echo unknown)
exec "${VERL_PYTHON:-$python}" -m verl.trainer.main_ppo --config-dir "$root/recipes" --config-name "$recipe" \
  "hydra.searchpath=[pkg://verl.trainer.config,file://$root/configs]" "run.commit='$commit'" "$@"
