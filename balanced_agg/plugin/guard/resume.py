"""A killed run resumes from its last complete checkpoint, which has the metrics of its step. See in_verl.py.

Checkpoints that are saved asynchronously (``checkpoint.async_save``) are left to verl: it knows when they are complete.
"""

import copy
import json
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from weakref import WeakKeyDictionary

from balanced_agg.plugin import logger
from balanced_agg.plugin.guard import checkpoints
from balanced_agg.plugin.guard.faults import fault_metrics
from balanced_agg.runs.file_log import is_number

_steps: WeakKeyDictionary = WeakKeyDictionary()  # PPOTrainer -> batch, metrics and start of the step in progress


def find_complete_checkpoint(wrapped: Callable, instance: None, args: tuple, kwargs: dict) -> str | None:
    """verl trusts ``latest_checkpointed_iteration.txt``, which a kill leaves empty or naming a deleted folder: return
    the last complete checkpoint instead.
    """

    path = kwargs["path"] if "path" in kwargs else args[0]
    if path is None:
        return wrapped(*args, **kwargs)
    run = Path(path)
    incomplete = checkpoints.incomplete(run)
    for name, reason in incomplete.items():
        logger.warning("the checkpoint %s is skipped: %s", run / name, reason)
    if complete := checkpoints.completed(run):
        return str(complete[-1])
    try:
        found = wrapped(*args, **kwargs)
    except ValueError as error:
        if not incomplete:
            raise ValueError(
                f"{run}/latest_checkpointed_iteration.txt names no step, so the last complete checkpoint is not known; "
                "name one with trainer.resume_mode=resume_path trainer.resume_from_path=…/global_step_N"
            ) from error
        found = None
    if incomplete and (found is None or Path(found).name in incomplete):  # the first marked one was cut short
        found = max(map(str, checkpoints.unmarked(run)), key=checkpoints.step, default=None)
    if found is not None:
        logger.warning("%s was saved without balanced_agg: whether it is complete is not known", found)
    return found


def note_step(wrapped: Callable, trainer: Any, args: tuple, kwargs: dict) -> Any:
    """verl trains a step here and hands out its batch and metrics, which the saving of its checkpoint does not get:
    keep them for it, and add the counts of the step's faults.
    """
    metrics = kwargs["metrics"] if "metrics" in kwargs else args[0]
    start = time.perf_counter()
    batch = wrapped(*args, **kwargs)
    metrics.update(fault_metrics(trainer, batch))
    _steps[trainer] = batch, metrics, start
    return batch


def save_atomically(wrapped: Callable, trainer: Any, args: tuple, kwargs: dict) -> None:
    """verl writes a checkpoint file by file and deletes old ones first: mark the folder as incomplete before and as
    complete after, and delete old ones only then.

    verl's ``CheckpointCallback.on_save`` marks the end of the writing. It is not set by
    ``trainer.checkpoint_callback_class``, which would take that key from the user: theirs is called after ours.
    """
    if trainer.config.actor_rollout_ref.actor.get("checkpoint", {}).get("async_save", False):
        return wrapped(*args, **kwargs)
    config, callback = trainer.config.trainer, trainer.checkpoint_callback
    run = Path(config.default_local_dir)
    folder = run / f"global_step_{trainer.global_steps}"
    keep = checkpoints.to_keep(config, trainer.use_critic)
    metrics = _metrics_so_far(trainer)
    # verl's workers delete before the new checkpoint is complete, so they are to keep one more. Where the driver sees
    # their files it deletes the rest itself; on a node that keeps its shards to itself, this limit is the only one.
    most = checkpoints.most_on_disk(keep, guarded=True)
    ours = {"remove_previous_ckpt_in_save": False, "max_actor_ckpt_to_keep": most, "max_critic_ckpt_to_keep": most}
    asked_for = {key: config[key] for key in ours if key in config}

    def on_save(**saved: Any) -> None:  # verl calls it once everything is written
        checkpoints.complete(folder, metrics)
        callback.on_save(**saved)

    checkpoints.begin(folder)
    trainer.checkpoint_callback = SimpleNamespace(on_save=on_save)
    config.update({key: ours[key] for key in asked_for})
    try:
        wrapped(*args, **kwargs)
    finally:
        trainer.checkpoint_callback = callback
        config.update(asked_for)
    checkpoints.prune(run, keep)


def _metrics_so_far(trainer: Any) -> dict[str, Any]:
    """Of the step whose checkpoint is being saved; verl logs it when weights are synced and validation is done."""
    import orjson

    if trainer not in _steps:  # a trainer with steps of its own
        return {}
    batch, metrics, start = _steps[trainer]
    beside = copy.copy(trainer)  # one metric accumulates over steps, and this step is not to count twice
    beside._rollout_moe_lb_metrics_accumulator = copy.deepcopy(trainer._rollout_moe_lb_metrics_accumulator)
    metrics, timing = dict(metrics), trainer.timing_raw | {"step": time.perf_counter() - start}
    epoch = (trainer.global_steps - 1) // trainer.steps_per_epoch
    beside._compute_metrics(batch, metrics, timing, global_steps=trainer.global_steps, epoch=epoch)
    numbers = json.loads(orjson.dumps(metrics, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS))
    return {name: value for name, value in numbers.items() if is_number(value)}
