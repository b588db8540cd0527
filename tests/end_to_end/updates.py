"""Loaded into every verl process of a test run: keeps each update's batch, what it logged, and the weights before it.

They are files in UPDATES_DIR, numbered from 0: ``batch-N.pt`` in the form of ``skip.rollout_tq``, with which itself the
asynchronous trainers would start no rollouts ahead, and ``weights-N.pt`` of the whole model, or of the LoRA adapter
where one is trained.
"""

import os
from itertools import count
from pathlib import Path

import torch

from tests.wrapping import wrap_when_imported

FIELDS = (
    "uid",
    "prompts",
    "responses",
    "response_mask",
    "rm_scores",
    "rollout_log_probs",
    "length_divisor",
    "reward_model",
)
_batches, _weights = count(), count()


def _keep_batch(wrapped, trainer, args, kwargs):
    import transfer_queue as tq

    batch = wrapped(*args, **kwargs)
    metrics = kwargs["metrics"] if "metrics" in kwargs else args[1]
    data = tq.kv_batch_get(keys=batch.keys, partition_id=batch.partition_id, select_fields=list(FIELDS))
    kept = {"tensordict": data, "keys": batch.keys, "tags": batch.tags}
    _save(kept | {"step": trainer.global_steps, "metrics": metrics}, "batch", _batches)
    return batch


def _keep_weights(wrapped, worker, args, kwargs):
    weights, _ = worker.actor.engine.get_per_tensor_param(base_sync_done=True)
    weights = dict(weights)  # all ranks gather them
    if worker.rank == 0:
        _save(weights, "weights", _weights)
    return wrapped(*args, **kwargs)


def _save(what, name, numbers):
    torch.save(what, Path(os.environ["UPDATES_DIR"], f"{name}-{next(numbers)}.pt"))


wrap_when_imported("verl.trainer.ppo.v1.trainer_base", "PPOTrainer._update_actor", _keep_batch)
wrap_when_imported("verl.workers.engine_workers", "ActorRolloutRefWorker.update_actor", _keep_weights)
