"""Rewards: that what the config says is read, and that our function takes it and has a grader for every row."""

import inspect

from omegaconf import DictConfig, ListConfig, OmegaConf

from balanced_agg.plugin.checks.data import complete, parquet_files
from balanced_agg.plugin.checks.reward_function import FUNCTION
from balanced_agg.plugin.launch import OUR_REWARDS as OURS
from balanced_agg.plugin.refusal import Refusal

# Sections of older verl scripts, and what is read in their place. verl 0.9.1 still has their keys, and ignores them.
DEAD_SECTIONS = {
    "reward_model.reward_kwargs": "reward.reward_kwargs",
    "reward_model.overlong_buffer": "reward.reward_kwargs.overlong_buffer_cfg, with reward.reward_manager.name=dapo",
    "reward_model.reward_manager": "reward.reward_manager.name",
    "reward_model.num_workers": "reward.num_workers",
    "reward_model": "reward.reward_model",
    "custom_reward_function": FUNCTION,
    "sandbox_fusion": "reward.sandbox_fusion",
}


def check_dead_rewards(config: DictConfig) -> None:
    """Check that nothing is set in a section that verl's main_ppo no longer reads."""
    for dead, alive in DEAD_SECTIONS.items():
        value = OmegaConf.select(config, dead)
        if keys := set_keys(value, dead):
            raise Refusal(keys[0], " is read by nothing in verl 0.9.1", f"remove it, and set {alive}")


def set_keys(value: object, key: str) -> list[str]:
    """The dotted keys below this one that are not null."""
    if isinstance(value, DictConfig):
        return [found for name in value for found in set_keys(value[name], f"{key}.{name}")]
    return [] if value is None else [key]


def check_reward_options(config: DictConfig) -> None:
    """Check that our reward function takes its options, and that a penalty for overlong responses is applied."""
    from balanced_agg.rewards import compute_score

    function = config.reward.custom_reward_function
    options = (function.get("reward_kwargs") or {}) if function.path == OURS else {}
    taken = inspect.signature(compute_score).parameters
    for name, value in options.items():
        if name not in taken:
            raise Refusal(f"{FUNCTION}.reward_kwargs.{name}", f" is no option of {OURS}", "remove it")
        if name in ("time_limit", "processes") and not (isinstance(value, int | float) and value > 0):
            raise Refusal(f"{FUNCTION}.reward_kwargs.{name}", f"={value}", "set it to a number above 0")
        if name == "tests_folders" and not (value is None or isinstance(value, ListConfig | list)):
            raise Refusal(f"{FUNCTION}.reward_kwargs.{name}", f"={value}", "set it to a list of folders")
        countable = value is None or (isinstance(value, int) and value >= 1)
        if name in ("sandbox_fusion_max_concurrent", "sandbox_fusion_memory_mb") and not countable:
            raise Refusal(f"{FUNCTION}.reward_kwargs.{name}", f"={value}", "set it to a whole number of at least 1")

    manager, settings = config.reward.reward_manager, config.reward.get("reward_kwargs") or {}
    penalty = settings.get("overlong_buffer_cfg") or {}
    if not penalty.get("enable") or manager.source != "register":
        return
    key = "reward.reward_kwargs.overlong_buffer_cfg"
    if manager.name in ("naive", "gdpo", "rate_limited", "remote"):
        what = f"=True with reward.reward_manager.name={manager.name}, which has no such penalty"
        raise Refusal(f"{key}.enable", what, "set the manager to dapo")
    longest = settings.get("max_resp_len")
    if not longest or not 0 < penalty.len <= longest:
        raise Refusal(
            f"{key}.len",
            f"={penalty.get('len')} tokens of reward.reward_kwargs.max_resp_len={longest}",
            "set len to less, and max_resp_len to data.max_response_length",
        )


def check_group_filter(config: DictConfig) -> None:
    """Check that groups without a signal, where they are replaced, are told by a number that rewards come with."""
    chosen = config.algorithm.get("filter_groups") or {}
    if not chosen.get("enable"):
        return
    known = ["acc", "reward", "score"]
    ours = config.reward.custom_reward_function.path == OURS
    given = (*known, "grader_failed", "overlong", "overlong_reward")
    if not chosen.get("metric") or (ours and chosen.metric not in given):
        what = f"={chosen.get('metric')} is no number that comes with a reward"
        raise Refusal("algorithm.filter_groups.metric", what, f"set it to one of {', '.join(known)}")


def check_graders(config: DictConfig) -> None:
    """Check that every data source in local parquet files has a grader, and that programs have a sandbox and time.

    Only where the rewards are ours.
    """
    if config.reward.custom_reward_function.path != OURS:
        return

    import pyarrow.parquet as pq

    from balanced_agg.rewards import check_source

    options = config.reward.custom_reward_function.get("reward_kwargs") or {}
    for key, file in parquet_files(config):
        with complete(key, file):
            sources = pq.read_table(file, columns=["data_source"])["data_source"].unique().to_pylist()
        try:
            for source in sources:
                check_source(source, **options)
        except ValueError as error:
            remedy = f"set {key} to other files, or {FUNCTION}.path to a function that grades these"
            raise Refusal(key, f": {file}: {error}", remedy) from None
        if "livecodebench" in sources:
            check_program_time(config)


def check_program_time(config: DictConfig) -> None:
    """Check that the time limit of the reward function does not end a program's tests before their own limit does."""
    from balanced_agg.rewards.code import GRADE_SECONDS

    seconds = config.reward.get("timeout")
    if seconds is not None and seconds <= GRADE_SECONDS:
        what = f"={seconds:g} s may end before the tests of a program"
        raise Refusal("reward.timeout", what, f"set it to a number above {GRADE_SECONDS:g}")
