"""Checks before anything is launched: each refusal is one ``ValueError`` that names the key and what to set it to.

verl's driver calls :func:`check_launch` through the plugin, after Hydra has composed the config and before Ray starts.
What verl's own ``validate_config`` says at that time is left to it.
"""

from omegaconf import DictConfig

from balanced_agg.plugin.checks.batches import (
    check_batches,
    check_micro_batches,
    check_parallelism,
    check_separate_async,
    check_token_budget,
)
from balanced_agg.plugin.checks.cluster import (
    CPUS_PER_RANK,
    check_cluster,
    check_gpus,
    check_platform,
    check_ray_cpus,
    needed_cpus,
    starts_ray,
)
from balanced_agg.plugin.checks.data import (
    check_columns,
    check_data_files,
    check_prompts,
    check_rollout_counts,
    check_steps,
    check_vocabulary,
    local_data_files,
)
from balanced_agg.plugin.checks.model import check_chat_template, check_context, check_model_files
from balanced_agg.plugin.checks.outputs import check_folders, check_loggers, check_resume
from balanced_agg.plugin.checks.rewards import (
    check_dead_rewards,
    check_graders,
    check_group_filter,
    check_reward_function,
    check_reward_options,
)
from balanced_agg.plugin.checks.values import check_names, check_numbers
from balanced_agg.plugin.loss.refusals import UNGROUPED_ESTIMATORS, VERL_MODES, check_aggregation

__all__ = [
    "CHECKS",
    "CPUS_PER_RANK",
    "UNGROUPED_ESTIMATORS",
    "VERL_MODES",
    "check_launch",
    "local_data_files",
    "needed_cpus",
    "starts_ray",
]

# In this order. Each reads nothing but the composed config, the environment, local files and whether a cluster answers,
# and raises a Refusal on the first thing that cannot work, or would not do what it says.
CHECKS = (
    # The config alone
    check_numbers,
    check_names,
    check_dead_rewards,
    check_aggregation,
    check_platform,
    check_separate_async,
    check_batches,
    check_micro_batches,
    check_parallelism,
    check_token_budget,
    check_group_filter,
    check_reward_options,
    # Files
    check_data_files,
    check_columns,
    check_steps,
    check_rollout_counts,
    check_graders,
    check_reward_function,
    check_chat_template,
    check_model_files,
    check_context,
    check_vocabulary,
    check_prompts,
    check_folders,
    check_resume,
    check_loggers,
    # The machine
    check_cluster,
    check_gpus,
    check_ray_cpus,
)


def check_launch(config: DictConfig) -> None:
    """Make all checks of a composed verl config; a :class:`Refusal` (a ValueError) ends them."""
    for check in CHECKS:
        check(config)
