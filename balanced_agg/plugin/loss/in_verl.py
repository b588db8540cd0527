"""Balanced Aggregation inside an unmodified verl: the entry point of the group ``verl.plugins``.

verl imports this module in every process (driver, Ray workers, vLLM workers) before anything else of its own. verl
0.9.1 has registries for losses, advantages and engines but none for aggregation modes, so eight functions are
wrapped, each as its module is first imported and before another module can bind the name. What is wrapped for faults
during a run is in guard/faults.py, and for runs that are killed in guard/resume.py. Nothing else is touched.

    wrapped                                          why
    ActorConfig.__post_init__                        its list of modes is a literal: let ours pass
    utils.config.validate_config                     refuse before Ray starts what cannot work (plugin/checks)
    PPOTrainer._compute_advantage                    the one place with whole groups, their final masks and advantages:
                                                     write ``length_divisor``, one float per response, beside them
    PPOTrainer._compute_old_log_prob                 it logs an entropy through agg_loss: that one is a token-mean
    workers.utils.losses.ppo_loss                    it alone sees the micro-batch's ``length_divisor``: hold it ready
    core_algos.get_policy_loss_fn                    the policy term, and only it, divides by the held divisor
    core_algos.agg_loss                              an if-chain over modes: add ours
    PPOTrainer._compute_metrics                      add what every rule would do to the step's batch (diagnostics.py)

Under verl's own modes all but the last pass straight through, and that one only adds to what is logged.

Under our modes only the policy-gradient term is balanced. Entropy and KL terms keep verl's ``token-mean`` over the
mini-batch, so their scale and coefficients mean what they mean there. A policy loss under our modes without a divisor
at hand raises: there is no fall-back to the statistics of a micro-batch.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import verl
from torch import Tensor

from balanced_agg.loss.aggregation import aggregate, length_divisors, response_lengths
from balanced_agg.loss.diagnostics import aggregation_metrics, response_advantages
from balanced_agg.loss.rules import MODE_KEY, PLUGIN_MODES
from balanced_agg.plugin.guard.faults import WRAPPERS as FAULT_WRAPPERS
from balanced_agg.plugin.guard.resume import WRAPPERS as RESUME_WRAPPERS
from balanced_agg.plugin.wrapping import TESTED_VERL, wrap_when_imported

FIELD = "length_divisor"


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
    mode = config.loss_agg_mode
    if mode not in PLUGIN_MODES:
        return wrapped(*args, **kwargs)
    # The config is frozen once set; object.__setattr__ lends verl's own check a mode it knows.
    object.__setattr__(config, "loss_agg_mode", "token-mean")
    try:
        wrapped(*args, **kwargs)
    finally:
        object.__setattr__(config, "loss_agg_mode", mode)


def _check_launch(wrapped: Callable, instance: None, args: tuple, kwargs: dict) -> None:
    # Imported late: only the driver validates, and it has the time.
    from omegaconf import OmegaConf

    from balanced_agg.plugin.checks import check_launch

    config = kwargs["config"] if "config" in kwargs else args[0]
    check_launch(config)
    wrapped(*args, **kwargs)
    # verl hands these to Ray as they stand, and an interpolation in env_vars would arrive as its own text.
    OmegaConf.resolve(config.ray_kwargs)


def _write_divisors(wrapped: Callable, trainer: Any, args: tuple, kwargs: dict) -> Any:
    batch = wrapped(*args, **kwargs)
    mode = trainer.config.actor_rollout_ref.actor.loss_agg_mode
    if mode not in PLUGIN_MODES:
        return batch

    import transfer_queue as tq
    from tensordict import TensorDict

    divisors = length_divisors(mode, *_groups_advantages_mask(batch.keys, batch.partition_id))
    return tq.kv_batch_put(
        keys=batch.keys,
        partition_id=batch.partition_id,
        fields=TensorDict({FIELD: divisors}, batch_size=len(divisors)),
    )


def _groups_advantages_mask(keys: list[str], partition_id: str) -> tuple[list[str], Tensor, Tensor]:
    """Of the responses under these keys of verl's TransferQueue: group ids, and (rows, tokens) advantages and mask."""
    import transfer_queue as tq

    fields = ["uid", "response_mask", "advantages"]
    data = tq.kv_batch_get(keys=keys, partition_id=partition_id, select_fields=fields)
    group_ids = data.pop("uid").tolist()
    data = data.to_padded_tensor()
    return group_ids, data["advantages"], data["response_mask"]


def _add_diagnostics(wrapped: Callable, trainer: Any, args: tuple, kwargs: dict) -> None:
    # Not in _compute_advantage: where a step has several of them, verl averages what they logged.
    def compute_metrics(batch: Any, metrics: dict, *further: Any, **named: Any) -> None:
        wrapped(batch, metrics, *further, **named)
        start = time.perf_counter()
        keys = [key for key, tag in zip(batch.keys, batch.tags, strict=True) if not tag.get("is_padding", False)]
        group_ids, advantages, mask = _groups_advantages_mask(keys, batch.partition_id)
        config = trainer.config
        budget = config.actor_rollout_ref.actor.loss_scale_factor or config.data.max_response_length
        lengths = response_lengths(mask)
        found = aggregation_metrics(group_ids, lengths, response_advantages(advantages, mask, lengths), budget)
        metrics.update({f"aggregation/{name}": value for name, value in found.items()})
        metrics["timing_s/aggregation_metrics"] = time.perf_counter() - start

    return compute_metrics(*args, **kwargs)


def _hold_no_divisor(wrapped: Callable, trainer: Any, args: tuple, kwargs: dict) -> Any:
    with _holding(_MicroBatch(divisor=None)):
        return wrapped(*args, **kwargs)


def _hold_divisor(wrapped: Callable, instance: None, args: tuple, kwargs: dict) -> Any:
    def ppo_loss(config: Any, model_output: Any, data: Any, dp_group: Any = None) -> Any:
        if config.loss_agg_mode not in PLUGIN_MODES:
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
    def agg_loss(
        loss_mat: Any,
        loss_mask: Any,
        loss_agg_mode: str,
        dp_size: int = 1,
        batch_num_tokens: Any = None,
        global_batch_size: Any = None,
        loss_scale_factor: Any = None,
    ) -> Any:
        if loss_agg_mode not in PLUGIN_MODES:
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
            return wrapped(loss_mat, loss_mask, "token-mean", dp_size, batch_num_tokens)
        if global_batch_size is None:
            raise RuntimeError(f"{MODE_KEY}={loss_agg_mode} needs global_batch_size; this engine did not provide it")
        micro_batch.reached = True
        return aggregate(loss_mat, loss_mask, micro_batch.divisor, global_batch_size, dp_size)

    return agg_loss(*args, **kwargs)


def _refuse_our_modes(wrapped: Callable, config: Any, args: tuple, kwargs: dict) -> None:
    if config.loss_agg_mode in PLUGIN_MODES:
        raise ValueError(
            f"{MODE_KEY}={config.loss_agg_mode}: balanced_agg is tested with verl {', '.join(TESTED_VERL)} and wraps "
            f"its functions, but this is verl {verl.__version__}; install verl=={TESTED_VERL[-1]}, or set the key to "
            "one of verl's own modes"
        )
    return wrapped(*args, **kwargs)


_WRAPPERS = (
    ("verl.workers.config.actor", "ActorConfig.__post_init__", _accept_our_modes),
    ("verl.utils.config", "validate_config", _check_launch),
    ("verl.trainer.ppo.v1.trainer_base", "PPOTrainer._compute_advantage", _write_divisors),
    ("verl.trainer.ppo.v1.trainer_base", "PPOTrainer._compute_old_log_prob", _hold_no_divisor),
    ("verl.workers.utils.losses", "ppo_loss", _hold_divisor),
    ("verl.trainer.ppo.core_algos", "get_policy_loss_fn", _mark_policy_term),
    ("verl.trainer.ppo.core_algos", "agg_loss", _aggregate_our_modes),
    ("verl.trainer.ppo.v1.trainer_base", "PPOTrainer._compute_metrics", _add_diagnostics),
)


if verl.__version__ in TESTED_VERL:
    for _module, _name, _wrapper in _WRAPPERS + FAULT_WRAPPERS + RESUME_WRAPPERS:
        wrap_when_imported(_module, _name, _wrapper)
else:
    # verl swallows what a plugin raises at import, so the refusal waits for a config that asks for our modes.
    wrap_when_imported("verl.workers.config.actor", "ActorConfig.__post_init__", _refuse_our_modes)
