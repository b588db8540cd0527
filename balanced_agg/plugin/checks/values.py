"""Single values: numbers out of range, and names that verl does not know."""

import math
from collections.abc import Collection, Iterator
from typing import Any

from omegaconf import DictConfig, OmegaConf

from balanced_agg.plugin.cpu import cpu_is_chosen
from balanced_agg.plugin.refusal import Refusal

LOOP, LIBRARY = "actor_rollout_ref.rollout.agent.default_agent_loop", "actor_rollout_ref.model.external_lib"
OUR_LOOPS, OURS = ("token_ids", "seeded_token_ids"), "balanced_agg.plugin.token_ids"  # which imports much of verl

# Whole numbers of at least this, by key. A key that the config lacks is not looked at.
AT_LEAST = {
    "data.train_batch_size": 1,
    "data.max_prompt_length": 1,
    "data.max_response_length": 1,
    "actor_rollout_ref.actor.ppo_mini_batch_size": 1,
    "actor_rollout_ref.actor.ppo_epochs": 1,
    "actor_rollout_ref.actor.ulysses_sequence_parallel_size": 1,
    "actor_rollout_ref.rollout.n": 1,
    "actor_rollout_ref.rollout.val_kwargs.n": 1,
    "actor_rollout_ref.rollout.tensor_model_parallel_size": 1,
    "actor_rollout_ref.rollout.data_parallel_size": 1,
    "reward.num_workers": 1,
    "trainer.nnodes": 1,
    "trainer.n_gpus_per_node": 1,
    "trainer.total_epochs": 1,
    "trainer.save_freq": -1,
    "trainer.test_freq": -1,
}
# The same, where null means that verl chooses.
AT_LEAST_OR_NULL = {
    "trainer.total_training_steps": 1,
    "actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu": 1,
    "actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu": 1,
}
# Key -> (whether it may be 0, the most it may be, what it is or would do).
BETWEEN = {
    # Nothing is learnt at 0, which is of use to measure gradients.
    "actor_rollout_ref.actor.optim.lr": (True, math.inf, "the learning rate"),
    # verl's actor divides its logits by it, too.
    "actor_rollout_ref.rollout.temperature": (False, math.inf, "all responses to a prompt would be the same"),
    "actor_rollout_ref.rollout.top_p": (False, 1, "a share of the probability"),
    "actor_rollout_ref.rollout.val_kwargs.top_p": (False, 1, "a share of the probability"),
    "actor_rollout_ref.rollout.gpu_memory_utilization": (False, 1, "a share of the memory"),
    "reward.timeout": (False, math.inf, "the seconds that one call of the reward function may take"),
}


def check_numbers(config: DictConfig) -> None:
    """Check that counts are whole numbers of at least 1, and rates and shares in their range; verl does much later."""
    for key, least in (AT_LEAST | AT_LEAST_OR_NULL).items():
        value = OmegaConf.select(config, key, default=least)
        if value is None and key in AT_LEAST_OR_NULL:
            continue
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise Refusal(key, f"={value!r}", f"set it to a whole number of at least {least}")
    for key, (zero_too, high, meaning) in BETWEEN.items():
        value = OmegaConf.select(config, key, default=1)
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not (0 < value <= high or (zero_too and value == 0)):
            bounds = f"{'of at least' if zero_too else 'above'} 0" + (f" and at most {high}" if high < math.inf else "")
            raise Refusal(key, f"={value!r}: {meaning}", f"set it to a number {bounds}")


def check_names(config: DictConfig) -> None:
    """Check that names that verl looks up in a registry are in it; verl does once everything runs."""
    for key, usual in USUAL_NAMES.items():
        name = OmegaConf.select(config, key, default=usual[0])
        if name not in usual and name not in (known := dict(_registries(config)).get(key, usual)):
            raise Refusal(key, f"={name} is unknown", f"set it to one of {', '.join(sorted({*usual, *known}))}")


def check_agent_loop(config: DictConfig) -> None:
    """Check that our agent loops, which the recipes name, have their module; verl does at the first rollout.

    And that vLLM can seed its responses: on CPU it stops at one whose prompt it has computed in parts.
    """
    libraries, loop = external_libraries(config), OmegaConf.select(config, LOOP)
    if loop in OUR_LOOPS and OURS not in libraries:
        listed = f"[{','.join([*libraries, OURS])}]"
        raise Refusal(
            LIBRARY,
            f" lacks {OURS}, which has {LOOP}={loop}",
            f"set it to {listed}, or the other to single_turn_agent",
        )
    if loop != "seeded_token_ids":
        return
    rollout = config.actor_rollout_ref.rollout
    if rollout.name != "vllm":
        raise Refusal(LOOP, f"={loop} needs actor_rollout_ref.rollout.name=vllm", "set it to single_turn_agent")
    if cpu_is_chosen() and rollout.enable_chunked_prefill:
        raise Refusal(
            "actor_rollout_ref.rollout.enable_chunked_prefill",
            f"=True cannot go with {LOOP}={loop} on CPU, where vLLM cannot seed a response whose prompt it computes in "
            "parts",
            "set it to False",
        )


def external_libraries(config: DictConfig) -> list[str]:
    """The modules that verl imports wherever it reads the model's config: one by name, or a list."""
    named = OmegaConf.select(config, LIBRARY) or []
    return [named] if isinstance(named, str) else list(named)


# Of verl 0.9.1, so that its registries are imported only for another name. The first is what a config without the
# key gets.
USUAL_NAMES = {
    "algorithm.adv_estimator": ("grpo",),
    "actor_rollout_ref.actor.policy_loss.loss_mode": ("vanilla",),
    "actor_rollout_ref.actor.strategy": ("fsdp", "fsdp2", "fsdp_turbo", "megatron", "veomni", "torchtitan"),
    "actor_rollout_ref.rollout.name": ("vllm", "sglang", "trtllm"),
    LOOP: ("single_turn_agent", "tool_agent", *OUR_LOOPS),
    "reward.reward_manager.name": ("naive", "dapo"),
    "trainer.resume_mode": ("auto", "disable", "resume_path"),
    "trainer.v1.trainer_mode": ("sync", "colocate_async", "separate_async"),
}


def _registries(config: DictConfig) -> Iterator[tuple[str, Collection[Any]]]:
    """(key, names) of what can be registered. Where a module of the user's may do so later, every name is in it."""
    from verl.experimental.agent_loop.agent_loop import _agent_loop_registry
    from verl.experimental.reward_loop.reward_manager.registry import REWARD_MANAGER
    from verl.trainer.ppo.core_algos import ADV_ESTIMATOR_REGISTRY, POLICY_LOSS_REGISTRY
    from verl.trainer.ppo.v1.trainer_base import TRAINER_REGISTRY
    from verl.workers.engine import EngineRegistry
    from verl.workers.rollout.replica import RolloutReplicaRegistry

    own_module = set(external_libraries(config)) - {OURS}
    own_loops = own_module or config.actor_rollout_ref.rollout.agent.agent_loop_config_path
    reward, manager = config.reward.custom_reward_function, config.reward.reward_manager
    # A reward function's file may register a manager, and one that is imported has a name of its own.
    own_manager = manager.source != "register" or reward.path not in (None, "pkg://balanced_agg.rewards")
    for key, registry, open_ended in (
        ("algorithm.adv_estimator", ADV_ESTIMATOR_REGISTRY, own_module),
        ("actor_rollout_ref.actor.policy_loss.loss_mode", POLICY_LOSS_REGISTRY, own_module),
        ("actor_rollout_ref.actor.strategy", EngineRegistry._engines["language_model"], own_module),
        ("actor_rollout_ref.rollout.name", RolloutReplicaRegistry._registry, own_module),
        (LOOP, _agent_loop_registry, own_loops),
        ("reward.reward_manager.name", REWARD_MANAGER, own_manager),
        ("trainer.v1.trainer_mode", TRAINER_REGISTRY, False),
    ):
        yield key, [*registry, OmegaConf.select(config, key)] if open_ended else list(registry)
