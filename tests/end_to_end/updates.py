"""Loaded into every verl process of a test run: keeps each update's batch, what it logged, and the weights before it.

They are files in UPDATES_DIR, numbered from 0: ``batch-N.pt`` in the form of ``skip.rollout_tq``, with which itself the
asynchronous trainers would start no rollouts ahead, and ``weights-N.pt`` of the whole model.
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
)
_batches, _weights = count(), count()


def _keep_batch(wrapped, trainer, args, kwargs):
    import transfer_queue as tq

    batch = wrapped(*args, **kwargs)
    metrics = kwargs["metrics"] if "metrics" in kwargs else args[1]
    data = tq.kv_batch_get(keys=batch.keys, partition_id=batch.partition_id, select_fields=list(FIELDS))
    _save({"step": trainer.global_steps, "tensordict": data, "tags": batch.tags, "metrics": metrics}, "batch", _batches)
    return batch


def _keep_weights(wrapped, worker, args, kwargs):
    weights, _ = worker.actor.engine.get_per_tensor_param()
    _save(dict(weights), "weights", _weights)
    return wrapped(*args, **kwargs)


def _save(what, name, numbers):
    torch.save(what, Path(os.environ["UPDATES_DIR"], f"{name}-{next(numbers)}.pt"))


wrap_when_imported("verl.trainer.ppo.v1.trainer_base", "PPOTrainer._update_actor", _keep_batch)
wrap_when_imported("verl.workers.engine_workers", "ActorRolloutRefWorker.update_actor", _keep_weights)
