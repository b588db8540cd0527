"""What of verl is wrapped so that faults are replaced, counted and bounded; the plugin puts it in place.

    wrapped                                      why
    reward.load_reward_manager                   every reward function is made there: give it a time limit
    RewardLoopManager._init_reward_loop_workers  the agent loops get their reward workers from it: guard them
                                                 (reward_worker.py), and start one that died again
    PPOTrainer._compute_advantage                the last look at the scores before they are trained on: stop, or go on
    PPOTrainer._compute_metrics                  log the counts
    tracking.Tracking.__init__                   go on offline when wandb cannot be reached (wandb_unreachable.py)

Methods of classes that are Ray actors, such as verl's workers, cannot be wrapped: Ray sends copies of the original
functions to the actor's process.

A reward model that shares the actor's devices grades in the driver's turn, not beside the rollouts: there a failure
stops the run by itself. verl's ``remote`` reward manager calls the function in processes of its own, which are not
started again.
"""

import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from balanced_agg.plugin.guard.counts import Faults, count_faults
from balanced_agg.plugin.guard.reward_worker import GuardedRewardWorker
from balanced_agg.plugin.guard.time_limit import FREEZE_GRACE_SECONDS, end_if_frozen, with_time_limit
from balanced_agg.plugin.guard.wandb_unreachable import log_offline_if_unreachable

# That of verl's rate-limited reward manager, which reads the same key.
DEFAULT_TIMEOUT_SECONDS = 300.0


def _limit_reward_function(wrapped: Callable, instance: None, args: tuple, kwargs: dict) -> Any:
    import ray

    manager = wrapped(*args, **kwargs)
    seconds = manager.config.reward.get("timeout", DEFAULT_TIMEOUT_SECONDS)
    if manager.compute_score is not None:
        manager.compute_score = with_time_limit(manager.compute_score, seconds)
    if ray.is_initialized() and ray.get_runtime_context().get_actor_id():  # a reward worker, which is started again
        end_if_frozen(seconds + FREEZE_GRACE_SECONDS)
    return manager


def _guard_reward_workers(wrapped: Callable, manager: Any, args: tuple, kwargs: dict) -> None:
    import ray

    worker = sys.modules["verl.experimental.reward_loop.reward_loop"].RewardLoopWorker
    # Calls in progress are repeated once, since most of them are not what it died of, and later ones wait for it.
    restarting = ray.remote(max_restarts=-1, max_task_retries=1)(worker)
    # Ray forgets large arguments of an actor once it runs, and could not make it again: this reference keeps them.
    config = ray.put(manager.config)

    def options(**of_worker: Any) -> SimpleNamespace:
        made = restarting.options(**of_worker)
        return SimpleNamespace(remote=lambda _, router_address: made.remote(config, router_address))

    manager.reward_loop_workers_class = SimpleNamespace(options=options)
    wrapped(*args, **kwargs)
    if manager.reward_loop_worker_handles is not None:
        manager.reward_loop_workers = [GuardedRewardWorker(handle) for handle in manager.reward_loop_workers]


def _faults(trainer: Any, batch: Any, updates: int) -> Faults:
    """Of a batch in verl's TransferQueue, which is that of `updates` of a step's ``parameter_sync_step`` updates."""
    import transfer_queue as tq

    keys = [key for key, tag in zip(batch.keys, batch.tags, strict=True) if not tag.get("is_padding", False)]
    data = tq.kv_batch_get(keys=keys, partition_id=batch.partition_id, select_fields=["extra_fields", "rm_scores"])
    if not data["rm_scores"].to_padded_tensor(0.0).isfinite().all():
        raise RuntimeError(
            f"step {trainer.global_steps}: a reward model or an agent loop gave a score that is not finite"
        )
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
    ("verl.trainer.ppo.reward", "load_reward_manager", _limit_reward_function),
    ("verl.experimental.reward_loop.reward_loop", "RewardLoopManager._init_reward_loop_workers", _guard_reward_workers),
    ("verl.trainer.ppo.v1.trainer_base", "PPOTrainer._compute_advantage", _check_scores),
    ("verl.trainer.ppo.v1.trainer_base", "PPOTrainer._compute_metrics", _log_counts),
    ("verl.utils.tracking", "Tracking.__init__", log_offline_if_unreachable),
)
