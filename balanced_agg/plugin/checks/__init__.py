"""Refusals before anything is launched: each is one ``ValueError`` that names the key and what to set it to.

verl's driver calls :func:`check_launch` through the plugin, after Hydra has composed the config and before Ray starts.
What verl's own ``validate_config`` says at that time is left to it.
"""

from omegaconf import DictConfig

from balanced_agg.plugin.checks.aggregation import UNGROUPED_ESTIMATORS, VERL_MODES, check_aggregation
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

__all__ = [
    "CPUS_PER_RANK",
    "UNGROUPED_ESTIMATORS",
    "VERL_MODES",
    "check_launch",
    "local_data_files",
    "needed_cpus",
    "starts_ray",
]


def check_launch(config: DictConfig) -> None:
    """Check a composed verl config; read nothing but it, the environment, local files and whether a cluster answers.

    Raises:
        ValueError: on the first thing that cannot work, or would not do what it says.
    """
    # The config alone
    check_numbers(config)
    check_names(config)
    check_dead_rewards(config)
    check_aggregation(config)
    check_platform(config)
    check_separate_async(config)
    check_batches(config)
    check_micro_batches(config)
    check_parallelism(config)
    check_token_budget(config)
    check_group_filter(config)
    check_reward_options(config)
    # Files
    check_data_files(config)
    check_columns(config)
    check_steps(config)
    check_rollout_counts(config)
    check_graders(config)
    check_reward_function(config)
    check_chat_template(config)
    check_model_files(config)
    check_context(config)
    check_vocabulary(config)
    check_prompts(config)
    check_folders(config)
    check_resume(config)
    check_loggers(config)
    # The machine
    check_cluster(config)
    check_gpus(config)
    check_ray_cpus(config)
