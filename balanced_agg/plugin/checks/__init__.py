"""Checks before anything is launched: each refusal is one ``ValueError`` that names the key and what to set it to.

verl's driver calls :func:`check_launch` through the plugin, after Hydra has composed the config and before Ray starts.
What verl's own ``validate_config`` says at that time is left to it.
"""

from omegaconf import DictConfig

from balanced_agg.plugin.checks import (
    batches,
    cluster,
    data,
    ground_truths,
    memory,
    model,
    outputs,
    packages,
    programs,
    reward_function,
    rewards,
    values,
)
from balanced_agg.plugin.loss import refusals

# In this order. Each reads nothing but the composed config, the environment, local files, whether a cluster answers and
# whether an interpreter starts, and raises a Refusal on the first thing that cannot work, or would not do what it says.
CHECKS = (
    # The config alone; the first two are the loss's own, which it makes at every launch
    refusals.check_aggregation,
    refusals.check_whole_groups,
    values.check_numbers,
    values.check_names,
    values.check_agent_loop,
    rewards.check_dead_rewards,
    packages.check_torch,
    cluster.check_platform,
    batches.check_separate_async,
    batches.check_batches,
    batches.check_micro_batches,
    batches.check_parallelism,
    batches.check_token_budget,
    rewards.check_group_filter,
    rewards.check_reward_options,
    # Files
    data.check_data_files,
    data.check_columns,
    data.check_steps,
    data.check_rollout_counts,
    data.check_column_types,
    rewards.check_graders,
    programs.check_tests,
    programs.check_memory,
    ground_truths.check_ground_truths,
    reward_function.check_reward_function,
    model.check_chat_template,
    model.check_model_files,
    model.check_fused_kernels,
    model.check_context,
    data.check_prompts,
    outputs.check_folders,
    outputs.check_resume,
    outputs.check_loggers,
    # The machine
    packages.check_trl,
    packages.check_attention,
    cluster.check_cluster,
    cluster.check_interpreter,
    cluster.check_gpus,
    cluster.check_ray_cpus,
    memory.check_memory,
)


def check_launch(config: DictConfig) -> None:
    """Make all checks of a composed verl config; a :class:`Refusal` (a ValueError) ends them."""
    for check in CHECKS:
        check(config)
