"""Faults of grading: replaced by a fallback score, counted and bounded. What is wrapped stands in in_verl.py.

A reward model that shares the actor's devices grades in the driver's turn, not beside the rollouts: there a failure
stops the run by itself. verl's ``remote`` reward manager calls the function in processes of its own, which are not
started again.
"""

import sys
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

from balanced_agg.plugin.guard.scores import REASON, guarded
from balanced_agg.plugin.guard.time_limit import FREEZE_GRACE_SECONDS, end_if_frozen, with_time_limit
from balanced_agg.plugin.launch import leave_out_grader_options
from balanced_agg.runs import verl_keys

# That of verl's rate-limited reward manager, which reads the same key.
DEFAULT_TIMEOUT_SECONDS = 300.0


def limit_reward_function(wrapped: Callable, instance: None, args: tuple, kwargs: dict) -> Any:
    """verl makes every reward manager, with its reward function, here: give the function a time limit.

    In a reward worker, which Ray restarts, the process also ends itself where a call holds the interpreter for ever.
    """
    import ray

    leave_out_grader_options(kwargs["config"] if "config" in kwargs else args[0])  # where nothing was launched
    manager = wrapped(*args, **kwargs)
    seconds = manager.config.reward.get("timeout", DEFAULT_TIMEOUT_SECONDS)
    if manager.compute_score is not None:
        manager.compute_score = with_time_limit(manager.compute_score, seconds)
    if ray.is_initialized() and ray.get_runtime_context().get_actor_id():  # a reward worker, which is started again
        end_if_frozen(seconds + FREEZE_GRACE_SECONDS)
    return manager


def guard_reward_workers(wrapped: Callable, manager: Any, args: tuple, kwargs: dict) -> None:
    """verl starts the reward workers here and gives them to the agent loops: let Ray restart one that dies, and hand
    out guarded handles (scores.py), which answer with a fallback score where none comes.
    """
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
        manager.reward_loop_workers = [guarded(handle) for handle in manager.reward_loop_workers]


def count_fallbacks(keys: Sequence[str], extra_fields: Sequence[dict[str, Any]]) -> tuple[int, int, str]:
    """The number of responses, of those among them with a fallback score, and why the first of these has it.

    A response may be several rows, the outputs of a session, of which the last one has the score.

    Args:
        keys: verl's keys of the rows, without padding rows.
        extra_fields: verl's, of each row.
    """
    parsed = zip(map(verl_keys.parse, keys), extra_fields, strict=True)
    last = {key.session: fields for key, fields in sorted(parsed, key=lambda row: row[0].output)}
    reported = [fields.get("reward_extra_info") or {} for fields in last.values()]
    reasons = [info[REASON] for info in reported if REASON in info]
    return len(last), sum(info.get("grader_failed", 0) > 0 for info in reported), next(iter(reasons), "grader_failed")


def _fallbacks(trainer: Any, batch: Any) -> tuple[int, int, str]:
    """`count_fallbacks` of a batch in verl's TransferQueue. RuntimeError if one of its scores is not finite."""
    import transfer_queue as tq

    keys = verl_keys.without_padding(batch)
    data = tq.kv_batch_get(keys=keys, partition_id=batch.partition_id, select_fields=["extra_fields", "rm_scores"])
    if not data["rm_scores"].to_padded_tensor(0.0).isfinite().all():
        raise RuntimeError(
            f"step {trainer.global_steps}: a reward model or an agent loop gave a score that is not finite"
        )
    return count_fallbacks(keys, data.pop("extra_fields").tolist())


def check_scores(wrapped: Callable, trainer: Any, args: tuple, kwargs: dict) -> Any:
    """verl computes a batch's advantages here, the last use of its scores before they are trained on: stop the run
    where most of them are fallback scores.
    """
    came, fallbacks, reason = _fallbacks(trainer, kwargs["batch"] if "batch" in kwargs else args[0])
    if 2 * fallbacks > came:
        raise RuntimeError(
            f"step {trainer.global_steps}: {fallbacks} of {came} scores did not come and would be 0 by default "
            f"({reason}); the run stops before it trains on them. Mend the reward function (the log has a traceback of "
            "each kind of error), or raise reward.timeout, and start the same command again"
        )
    return wrapped(*args, **kwargs)


def fault_metrics(trainer: Any, batch: Any) -> dict[str, float]:
    """What a step logs of its faults, by name; `batch` is the one that verl's ``PPOTrainer.step`` returned."""
    came, fallbacks, _ = _fallbacks(trainer, batch)
    expected = trainer.config.data.train_batch_size * trainer.config.actor_rollout_ref.rollout.n
    return {
        "rollout/missing": max(0, expected - came),
        "reward/defaulted": fallbacks,
        "reward/defaulted_share": fallbacks / came,
    }
