"""Loaded into every verl process of a test run (VERL_USE_EXTERNAL_MODULES): who ran, and was the plugin active?

Each kind of process writes one file, named after its role, when it does that role's work.
"""

import json
import os
import sys
from pathlib import Path

from tests.wrapping import wrap_when_imported

ROLES = {
    "driver": ("verl.trainer.ppo.v1.trainer_base", "PPOTrainer._compute_advantage"),
    "actor": ("verl.workers.engine_workers", "ActorRolloutRefWorker.update_actor"),
    "vllm": ("verl.workers.rollout.vllm_rollout.utils", "vLLMColocateWorkerExtension.update_weights_from_ipc"),
}


def _witness(role):
    def wrapper(wrapped, instance, args, kwargs):
        core_algos = sys.modules.get("verl.trainer.ppo.core_algos")
        seen = {
            "pid": os.getpid(),
            "plugin": "balanced_agg.plugin.loss.in_verl" in sys.modules,
            "agg_loss_wrapped": core_algos is None or hasattr(core_algos.agg_loss, "__wrapped__"),
        }
        Path(os.environ["WITNESS_DIR"], f"{role}.json").write_text(json.dumps(seen))
        return wrapped(*args, **kwargs)

    return wrapper


def _compare_log_probs(wrapped, trainer, args, kwargs):
    import transfer_queue as tq

    batch = kwargs["batch"] if "batch" in kwargs else args[0]
    fields = ["rollout_log_probs", "old_log_probs", "response_mask"]
    data = tq.kv_batch_get(keys=batch.keys, partition_id=batch.partition_id, select_fields=fields).to_padded_tensor(0)
    difference = (data["rollout_log_probs"] - data["old_log_probs"]).abs()[data["response_mask"].bool()]
    with Path(os.environ["WITNESS_DIR"], "log_prob_differences.txt").open("a") as file:
        print(float(difference.mean()), file=file)
    return wrapped(*args, **kwargs)


wrap_when_imported("verl.trainer.ppo.v1.trainer_base", "PPOTrainer._compute_advantage", _compare_log_probs)
for _role, (_module, _name) in ROLES.items():
    wrap_when_imported(_module, _name, _witness(_role))
