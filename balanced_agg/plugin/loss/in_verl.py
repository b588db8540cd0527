"""The loss: Balanced Aggregation inside an unmodified verl. Entry point ``balanced_agg`` of the group ``verl.plugins``.

verl imports this module in every process (driver, Ray workers, vLLM workers) before anything else of its own. It has
registries for losses, advantages and engines but none for aggregation modes, so the functions of ``WRAPPERS`` below are
wrapped; each wrapper's docstring says what verl does there and what we change. Under verl's own modes they pass
straight through, and only ``aggregation/*`` metrics are added to what is logged (``BALANCED_AGG_METRICS=0``: not even
these).

Under our modes only the policy-gradient term is balanced. Entropy and KL terms keep verl's ``token-mean`` over the
mini-batch, so their scale and coefficients mean what they mean there. A policy loss under our modes without a divisor
at hand raises: there is no fall-back to the statistics of a micro-batch. Where a function to be wrapped has other
parameters than the contract says, our modes are refused with one ``ValueError`` and verl's own run as without us.
"""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from omegaconf import DictConfig
from torch import Tensor

from balanced_agg.loss.aggregation import aggregate
from balanced_agg.loss.rules import MODE_KEY, is_plugin_mode, rule_of
from balanced_agg.plugin import logger
from balanced_agg.plugin.launch import WRAPPER as LAUNCH_WRAPPER
from balanced_agg.plugin.launch import at_launch
from balanced_agg.plugin.loss.refusals import check_aggregation, check_whole_groups
from balanced_agg.plugin.loss.updates import budget_of, deal_whole_groups, keeps_groups_whole, metrics_of, read_update
from balanced_agg.plugin.refusal import Refusal
from balanced_agg.plugin.wrapping import TESTED_VERL, Wrapper, misfits, put_in_place, refusal, switched_on

FIELD = "length_divisor"
METRICS_SWITCH = "BALANCED_AGG_METRICS"
UPDATES = "_balanced_agg_updates"  # attribute of the trainer: what its metrics are computed of
CLIPPED = "clipped_steps"
TRAINER = "verl.trainer.ppo.v1.trainer_base"


@dataclass
class _MicroBatch:
    """What the loss of one micro-batch needs beyond agg_loss's arguments."""

    divisor: Tensor | None  # (rows,) length divisors; None where only auxiliary terms are aggregated
    in_policy_term: bool = False
    reached: bool = False  # whether the policy loss has gone through agg_loss with the mode it was given


_micro_batch: ContextVar[_MicroBatch | None] = ContextVar("balanced_agg_micro_batch", default=None)


@contextmanager
def _holding(micro_batch: _MicroBatch) -> Iterator[_MicroBatch]:
    token = _micro_batch.set(micro_batch)
    try:
        yield micro_batch
    finally:
        _micro_batch.reset(token)


def _accept_our_modes(wrapped: Callable, config: Any, args: tuple, kwargs: dict) -> None:
    """verl checks the mode against a list of its own: let ours pass, where all that this module wraps fits."""
    mode = config.loss_agg_mode
    if not is_plugin_mode(mode):
        return wrapped(*args, **kwargs)
    if reasons := misfits(WRAPPERS):
        raise refusal(f"{MODE_KEY}={mode}", reasons)
    # The config is frozen once set; object.__setattr__ lends verl's own check a mode it knows.
    object.__setattr__(config, "loss_agg_mode", "token-mean")
    try:
        wrapped(*args, **kwargs)
    finally:
        object.__setattr__(config, "loss_agg_mode", mode)


def _order_by_groups(wrapped: Callable, trainer: Any, args: tuple, kwargs: dict) -> Any:
    """verl deals the rows of a batch to ranks and optimizer steps here, without regard to groups: under
    ``balanced_agg.whole_groups=True`` deal them so that each optimizer step has whole groups.
    """

    def balance_batch(batch: Any, metrics: dict, *further: Any, **named: Any) -> Any:
        sampled = list(batch.keys)
        balanced = wrapped(batch, metrics, *further, **named)
        if keeps_groups_whole(trainer.config):
            return deal_whole_groups(trainer, balanced, sampled, metrics, named.get("logging_prefix", "global_seqlen"))
        return balanced

    return balance_batch(*args, **kwargs)


def _write_divisors(wrapped: Callable, trainer: Any, args: tuple, kwargs: dict) -> Any:
    """verl computes advantages here, the one place with whole groups, their final masks and advantages: write
    ``length_divisor``, one float per row, beside them.
    """
    batch = wrapped(*args, **kwargs)
    mode = trainer.config.actor_rollout_ref.actor.loss_agg_mode
    measured = switched_on(METRICS_SWITCH, default="1")
    if not (measured or is_plugin_mode(mode)):
        return batch
    with _no_harm_by_metrics(mode):
        update = read_update(trainer, batch)
        if measured:
            vars(trainer).setdefault(UPDATES, []).append(update)
    if not is_plugin_mode(mode):
        return batch

    import transfer_queue as tq
    from tensordict import TensorDict

    divisors = update.divisors(rule_of(mode), budget_of(trainer.config))
    return tq.kv_batch_put(
        keys=batch.keys,
        partition_id=batch.partition_id,
        fields=TensorDict({FIELD: divisors}, batch_size=len(divisors)),
    )


def _add_diagnostics(wrapped: Callable, trainer: Any, args: tuple, kwargs: dict) -> None:
    """verl computes what it logs of a step: add what every aggregation would do to its batch (loss/diagnostics.py).

    Nothing is added under ``BALANCED_AGG_METRICS=0``. Under verl's own modes an error of ours is a warning, and from
    then on nothing is added either.
    """

    # Not in _compute_advantage: where a step has several of them, verl averages what they logged.
    def compute_metrics(batch: Any, metrics: dict, *further: Any, **named: Any) -> None:
        wrapped(batch, metrics, *further, **named)
        updates, clipped = vars(trainer).pop(UPDATES, []), metrics.pop(f"actor/{CLIPPED}", None)
        if updates and switched_on(METRICS_SWITCH, default="1"):
            with _no_harm_by_metrics(trainer.config.actor_rollout_ref.actor.loss_agg_mode):
                metrics.update(metrics_of(updates, trainer.config))
                if clipped is not None:
                    metrics[f"aggregation/{CLIPPED}"] = clipped

    return compute_metrics(*args, **kwargs)


def _count_clipping(wrapped: Callable, worker: Any, args: tuple, kwargs: dict) -> Any:
    """verl collects what an actor's optimizer step logs here, its gradient norm before clipping included: add whether
    it was clipped.
    """
    output = wrapped(*args, **kwargs)
    logged, limit = output["metrics"], getattr(worker.optimizer_config, "clip_grad", None)
    if "grad_norm" in logged and limit and worker.config.model_type == "language_model":
        logged[CLIPPED] = float(logged["grad_norm"] > limit)
    return output


@contextmanager
def _no_harm_by_metrics(mode: str) -> Iterator[None]:
    """Under verl's own modes an error of ours ends the metrics, not the run."""
    try:
        yield
    except Exception:
        if is_plugin_mode(mode):
            raise
        os.environ[METRICS_SWITCH] = "0"
        logger.exception("no aggregation/* metrics from now on; the run is not affected")


def _hold_no_divisor(wrapped: Callable, trainer: Any, args: tuple, kwargs: dict) -> Any:
    """verl logs an entropy here, aggregated in the run's mode: under ours that one is a token-mean."""
    with _holding(_MicroBatch(divisor=None)):
        return wrapped(*args, **kwargs)


def _hold_divisor(wrapped: Callable, instance: None, args: tuple, kwargs: dict) -> Any:
    """verl computes a micro-batch's loss here, where alone its ``length_divisor`` is at hand: hold it ready."""

    def ppo_loss(config: Any, model_output: Any, data: Any, dp_group: Any = None) -> Any:
        if not is_plugin_mode(config.loss_agg_mode):
            return wrapped(config, model_output, data, dp_group)
        if FIELD not in data:
            raise RuntimeError(
                f"the batch has no field {FIELD!r}, so {MODE_KEY}={config.loss_agg_mode} cannot know its groups: the "
                "plugin is not active in the driver, or this trainer is not verl's PPOTrainer (trainer.use_v1=True)"
            )
        with _holding(_MicroBatch(divisor=data[FIELD])) as micro_batch:
            result = wrapped(config, model_output, data, dp_group)
        if not micro_batch.reached:
            raise RuntimeError(
                f"actor_rollout_ref.actor.policy_loss.loss_mode={config.policy_loss.get('loss_mode')} does not hand "
                f"{MODE_KEY}={config.loss_agg_mode} to verl's agg_loss, so it aggregates in a way of its own; set "
                "loss_mode to a loss that does, such as vanilla"
            )
        return result

    return ppo_loss(*args, **kwargs)


def _mark_policy_term(wrapped: Callable, instance: None, args: tuple, kwargs: dict) -> Callable:
    """verl looks the policy loss up here: return it so marked that only it divides by the held divisor."""
    policy_loss_fn = wrapped(*args, **kwargs)

    def policy_loss(*loss_args: Any, **loss_kwargs: Any) -> Any:
        micro_batch = _micro_batch.get()
        if micro_batch is None:
            return policy_loss_fn(*loss_args, **loss_kwargs)
        micro_batch.in_policy_term = True
        try:
            return policy_loss_fn(*loss_args, **loss_kwargs)
        finally:
            micro_batch.in_policy_term = False

    return policy_loss


def _aggregate_our_modes(wrapped: Callable, instance: None, args: tuple, kwargs: dict) -> Any:
    """verl aggregates token losses by an if-chain over its modes: add ours."""

    def agg_loss(
        loss_mat: Any,
        loss_mask: Any,
        loss_agg_mode: str,
        dp_size: int = 1,
        batch_num_tokens: Any = None,
        global_batch_size: Any = None,
        loss_scale_factor: Any = None,
    ) -> Any:
        if not is_plugin_mode(loss_agg_mode):
            return wrapped(
                loss_mat, loss_mask, loss_agg_mode, dp_size, batch_num_tokens, global_batch_size, loss_scale_factor
            )
        micro_batch = _micro_batch.get()
        if micro_batch is None:
            raise RuntimeError(
                f"agg_loss was called with {loss_agg_mode!r} outside verl's ppo_loss, where no length divisors are at "
                f"hand; use verl.trainer.main_ppo with trainer.use_v1=True, or set {MODE_KEY} to one of verl's modes"
            )
        if not micro_batch.in_policy_term:
            if batch_num_tokens == 0 or (batch_num_tokens is None and not loss_mask.any()):
                batch_num_tokens = 1  # where no response has a token, the mean of none is 0, not NaN
            return wrapped(loss_mat, loss_mask, "token-mean", dp_size, batch_num_tokens)
        if global_batch_size is None:
            raise RuntimeError(f"{MODE_KEY}={loss_agg_mode} needs global_batch_size; this engine did not provide it")
        if micro_batch.divisor is None:
            raise RuntimeError(
                f"{MODE_KEY}={loss_agg_mode}: a policy loss outside verl's ppo_loss has no length divisors"
            )
        micro_batch.reached = True
        return aggregate(loss_mat, loss_mask, micro_batch.divisor, global_batch_size, dp_size)

    return agg_loss(*args, **kwargs)


def _check_and_announce(config: DictConfig) -> None:
    """At the launch of a run under one of our modes: refuse what has no such mode, else say once that it is active."""
    mode = config.actor_rollout_ref.actor.loss_agg_mode
    check_whole_groups(config)
    if not is_plugin_mode(mode):
        return
    check_aggregation(config)
    found = version("verl")
    if found not in TESTED_VERL:
        logger.warning("balanced_agg is tested with verl %s; verl %s fits it, untested", TESTED_VERL[-1], found)
    n = config.actor_rollout_ref.rollout.n
    print(f"balanced_agg {version('balanced-agg')} is active: {MODE_KEY}={mode}, n={n}, verl {found}", flush=True)


def _check_parts(config: DictConfig) -> None:
    """Refuse a part that is switched on and not loaded: verl says nothing of an entry point that it does not find, or
    whose import fails."""
    for part in ("checks", "guard"):
        switch = f"BALANCED_AGG_{part.upper()}"
        if switched_on(switch) and f"balanced_agg.plugin.{part}.in_verl" not in sys.modules:
            raise Refusal(
                switch,
                f" is on, but verl did not load the plugin balanced_agg_{part}",
                "install the package again, delete an old balanced_agg.egg-info in the working directory or on "
                f"PYTHONPATH, or, where VERL_USE_EXTERNAL_PLUGINS leaves the plugin out, set {switch}=0",
            )


WRAPPERS = (
    Wrapper("verl.workers.config.actor", "ActorConfig.__post_init__", ("self",), _accept_our_modes),
    LAUNCH_WRAPPER,
    Wrapper(TRAINER, "PPOTrainer._balance_batch", ("self", "batch", "metrics", ...), _order_by_groups),
    Wrapper(TRAINER, "PPOTrainer._compute_advantage", ("self", "batch", "metrics", ...), _write_divisors),
    Wrapper(TRAINER, "PPOTrainer._compute_old_log_prob", ("self", "batch", "metrics", ...), _hold_no_divisor),
    Wrapper("verl.workers.utils.losses", "ppo_loss", ("config", "model_output", "data", "dp_group"), _hold_divisor),
    Wrapper("verl.trainer.ppo.core_algos", "get_policy_loss_fn", ("name",), _mark_policy_term),
    Wrapper(
        "verl.trainer.ppo.core_algos",
        "agg_loss",
        (
            "loss_mat",
            "loss_mask",
            "loss_agg_mode",
            "dp_size",
            "batch_num_tokens",
            "global_batch_size",
            "loss_scale_factor",
        ),
        _aggregate_our_modes,
    ),
    Wrapper(
        "verl.workers.engine_workers", "TrainingWorker._postprocess_output", ("self", "output", ...), _count_clipping
    ),
    Wrapper(TRAINER, "PPOTrainer._compute_metrics", ("self", "batch", "metrics", ...), _add_diagnostics),
)

put_in_place(WRAPPERS)
at_launch(_check_parts)
at_launch(_check_and_announce)
