"""What of verl is wrapped so that faults are replaced, counted and bounded; the plugin puts it in place.

    wrapped                                      why
    RewardLoopWorker._init_reward_fn             every reward function is made there: give it a time limit
    RewardLoopManager._init_reward_loop_workers  a reward worker that died (out of memory, frozen) is started again
    AgentLoopWorker._compute_score               the one place where a score meets its response: default what is none
    PPOTrainer._compute_advantage                the last look at the scores before they are trained on: stop, or go on
    PPOTrainer._compute_metrics                  log the counts

A reward model that shares the actor's devices grades in the driver's turn, not beside the rollouts: there a failure
stops the run by itself, and only the finiteness of its scores is looked at. verl's ``remote`` reward manager calls the
function in processes of its own, which have no time limit.
"""

import sys
from collections.abc import Awaitable, Callable
from typing import Any

from balanced_agg.faults.counts import Faults, count_faults
from balanced_agg.faults.scores import REASON, Defaults, checked, reason
from balanced_agg.faults.time_limit import FREEZE_GRACE_SECONDS, end_if_frozen, with_time_limit

# That of verl's rate-limited reward manager, which reads the same key.
DEFAULT_TIMEOUT_SECONDS = 300.0

_defaults = Defaults()


def _limit_reward_function(wrapped: Callable, worker: Any, args: tuple, kwargs: dict) -> None:
    wrapped(*args, **kwargs)
    seconds = worker.config.reward.get("timeout", DEFAULT_TIMEOUT_SECONDS)
    manager = worker.reward_manager
    if manager.compute_score is not None:
        manager.compute_score = with_time_limit(manager.compute_score, seconds)
    end_if_frozen(seconds + FREEZE_GRACE_SECONDS)


def _restart_reward_workers(wrapped: Callable, manager: Any, args: tuple, kwargs: dict) -> None:
    import ray

    worker = sys.modules["verl.experimental.reward_loop.reward_loop"].RewardLoopWorker
    # Calls in progress are not repeated: one of them may be what it died of.
    manager.reward_loop_workers_class = ray.remote(max_restarts=-1, max_task_retries=0)(worker)
    wrapped(*args, **kwargs)


def _default_failed_score(wrapped: Callable, worker: Any, args: tuple, kwargs: dict) -> Awaitable[None]:
    async def compute_score(outputs: list, kwargs: dict) -> None:  # verl's: kwargs are the prompt's fields
        if worker.reward_loop_worker_handles is None:
            return await wrapped(outputs, kwargs)
        response, data_source = outputs[-1], str(kwargs.get("data_source"))
        try:
            await wrapped(outputs, kwargs)
            response.reward_score = checked(response.reward_score)
            # verl's rate-limited manager scores 0 by itself and says so under two keys of its own.
            reported = response.extra_fields.setdefault("reward_extra_info", {})
            reported.setdefault("grader_failed", float(bool(reported.get("timeout") or reported.get("error"))))
            _defaults.learn(data_source, reported)
        except Exception as error:
            response.reward_score = 0.0
            response.extra_fields["reward_extra_info"] = _defaults.replace(data_source, error)
            response.extra_fields[REASON] = reason(error)

    return compute_score(*args, **kwargs)


def _faults(trainer: Any, batch: Any, updates: int) -> Faults:
    """Of a batch in verl's TransferQueue, which is that of `updates` of a step's ``parameter_sync_step`` updates."""
    import transfer_queue as tq

    keys = [key for key, tag in zip(batch.keys, batch.tags, strict=True) if not tag.get("is_padding", False)]
    data = tq.kv_batch_get(keys=keys, partition_id=batch.partition_id, select_fields=["extra_fields", "rm_scores"])
    if not data["rm_scores"].to_padded_tensor(0.0).isfinite().all():
        raise RuntimeError(f"step {trainer.global_steps}: a reward model's score is not a finite number")
    prompts = trainer.config.data.train_batch_size * updates // trainer.parameter_sync_step
    expected = prompts * trainer.config.actor_rollout_ref.rollout.n
    return count_faults(keys, data.pop("extra_fields").tolist(), expected)


def _check_scores(wrapped: Callable, trainer: Any, args: tuple, kwargs: dict) -> Any:
    batch = kwargs["batch"] if "batch" in kwargs else args[0]
    _faults(trainer, batch, updates=1).check(trainer.global_steps)
    return wrapped(*args, **kwargs)


def _log_counts(wrapped: Callable, trainer: Any, args: tuple, kwargs: dict) -> None:
    def compute_metrics(batch: Any, metrics: dict, *further: Any, **named: Any) -> None:
        wrapped(batch, metrics, *further, **named)
        metrics.update(_faults(trainer, batch, updates=trainer.parameter_sync_step).metrics)

    compute_metrics(*args, **kwargs)


WRAPPERS = (
    ("verl.experimental.reward_loop.reward_loop", "RewardLoopWorker._init_reward_fn", _limit_reward_function),
    (
        "verl.experimental.reward_loop.reward_loop",
        "RewardLoopManager._init_reward_loop_workers",
        _restart_reward_workers,
    ),
    ("verl.experimental.agent_loop.agent_loop", "AgentLoopWorker._compute_score", _default_failed_score),
    ("verl.trainer.ppo.v1.trainer_base", "PPOTrainer._compute_advantage", _check_scores),
    ("verl.trainer.ppo.v1.trainer_base", "PPOTrainer._compute_metrics", _log_counts),
)
