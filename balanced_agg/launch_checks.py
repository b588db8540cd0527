"""Refusals before anything is launched: each is one ``ValueError`` that names the key and what to set it to.

verl's driver calls :func:`check_launch` through the plugin, after Hydra has composed the config and before Ray starts.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from balanced_agg.rules import MODE_KEY
from balanced_agg.verl_plugin import MODES

VERL_MODES = ("token-mean", "token-sum", "seq-mean-token-sum", "seq-mean-token-mean", "seq-mean-token-sum-norm")

# Estimators of verl 0.9.1 that do not compare the responses of one group, or that give a response's tokens
# advantages of their own (optimal_token_baseline).
UNGROUPED_ESTIMATORS = (
    "gae",
    "reinforce_plus_plus",
    "remax",
    "optimal_token_baseline",
    "tir_optimal_token_baseline",
)
# Losses of verl 0.9.1 that ignore the aggregation mode they are given.
LOSSES_WITH_OWN_AGGREGATION = ("geo_mean", "sapo")
# ResourcePoolManager reserves this many CPUs for every rank (max_colocate_count).
CPUS_PER_RANK = 3
# Where `ray start` leaves the address that ray.init() then joins.
RAY_STARTED = Path(os.environ.get("RAY_TMPDIR", "/tmp"), "ray", "ray_current_cluster")


def check_launch(config: DictConfig) -> None:
    """Check a composed verl config; read nothing but it, the environment and local files.

    Raises:
        ValueError: on the first thing that cannot work.
    """
    check_aggregation(config)
    check_platform(config)
    check_data_files(config)
    check_graders(config)
    check_rollout_counts(config)
    check_chat_template(config)
    check_token_budget(config)
    check_ray_cpus(config)


def check_aggregation(config: DictConfig) -> None:
    """Refuse what has no Balanced Aggregation; verl's own modes pass."""
    actor = config.actor_rollout_ref.actor
    mode = actor.loss_agg_mode
    if mode not in MODES + VERL_MODES:
        raise ValueError(f"{MODE_KEY}={mode} is unknown; set it to one of {', '.join(MODES + VERL_MODES)}")
    if mode not in MODES:
        return

    def refuse(key: str, why: str, remedy: str) -> None:
        raise ValueError(f"{MODE_KEY}={mode} cannot go with {key}={OmegaConf.select(config, key)}: {why}; {remedy}")

    if not config.trainer.use_v1:
        refuse("trainer.use_v1", "only verl's V1 trainers hand whole groups to the plugin", "set it to True")
    if config.actor_rollout_ref.rollout.n < 2:
        refuse(
            "actor_rollout_ref.rollout.n",
            "a group of one response has no two signs to balance",
            "set it to 2 or more",
        )
    if config.algorithm.adv_estimator in UNGROUPED_ESTIMATORS:
        refuse(
            "algorithm.adv_estimator",
            "it does not give each response of a group one advantage",
            "set it to grpo, or another group estimator (rloo, opo, gpg, grpo_passk, reinforce_plus_plus_baseline)",
        )
    if actor.policy_loss.loss_mode in LOSSES_WITH_OWN_AGGREGATION:
        refuse(
            "actor_rollout_ref.actor.policy_loss.loss_mode",
            "this loss aggregates in a way of its own and ignores the mode",
            "set it to another loss, such as vanilla",
        )
    correction = config.algorithm.get("rollout_correction") or {}
    if correction.get("bypass_mode") and correction.get("rollout_rs"):
        refuse(
            "algorithm.rollout_correction.rollout_rs",
            "in bypass mode the actor rejects tokens after the group's lengths were counted",
            "set it to null, or algorithm.rollout_correction.bypass_mode to False",
        )
    if (config.get("distillation") or {}).get("enabled"):
        refuse("distillation.enabled", "a distillation loss has no groups", "set it to False")


def check_platform(config: DictConfig) -> None:
    """The Hydra group ``hardware: cpu`` and ``VERL_PLATFORM=cpu`` only make sense together."""
    platform = os.environ.get("VERL_PLATFORM", "").strip().lower()
    # Not config.trainer.device: verl has already overwritten it with the platform it detected.
    choices = HydraConfig.get().runtime.choices if HydraConfig.initialized() else {}
    if choices.get("hardware") == "cpu" and platform != "cpu":
        raise ValueError(f"hardware=cpu with VERL_PLATFORM={platform!r}; export VERL_PLATFORM=cpu, or set hardware")
    if config.trainer.device != "cpu" and platform == "cpu":
        raise ValueError(
            f"trainer.device={config.trainer.device} with VERL_PLATFORM=cpu; set hardware=cpu, or unset VERL_PLATFORM"
        )


def check_data_files(config: DictConfig) -> None:
    """Local data files must exist; remote ones (``hdfs://``, ``s3://``, …) are verl's to fetch."""
    missing = [(key, file) for key, file in local_data_files(config) if not file.exists()]
    if not missing:
        return
    data_dir = (config.get("run") or {}).get("data_dir")
    names = dict.fromkeys(file.stem for _, file in missing if str(file.parent) == data_dir)
    how = f"run `balanced-agg prepare {' '.join(names)}`" if names else "prepare the data set"
    raise ValueError(
        f"{', '.join(dict.fromkeys(key for key, _ in missing))}: {', '.join(str(file) for _, file in missing)} "
        f"{'does' if len(missing) == 1 else 'do'} not exist; {how}, or set the key to a file that does"
    )


def local_data_files(config: DictConfig) -> Iterator[tuple[str, Path]]:
    """(key, file) of each training and validation file on this machine."""
    for key in ("data.train_files", "data.val_files"):
        files = OmegaConf.select(config, key)
        for file in [files] if isinstance(files, str) else files or []:
            if "://" not in file:
                yield key, Path(file).expanduser()


def check_rollout_counts(config: DictConfig) -> None:
    """All validation files have the column ``__rollout_n__``, or none: verl joins them, and a gap is no number."""
    import pyarrow.parquet as pq

    files = [file for key, file in local_data_files(config) if key == "data.val_files" and file.suffix == ".parquet"]
    without = [str(file) for file in files if "__rollout_n__" not in pq.read_schema(file).names]
    if without and len(without) < len(files):
        raise ValueError(
            f"data.val_files: {', '.join(without)} have no column __rollout_n__, which the other files have; set "
            "data.val_files to files that agree"
        )


def check_graders(config: DictConfig) -> None:
    """Every data source in a local parquet file must have a grader, and programs a sandbox to run in.

    Only where the rewards are ours. Files without a column ``data_source`` are left to verl.
    """
    if config.reward.custom_reward_function.path != "pkg://balanced_agg.rewards":
        return

    import pyarrow.parquet as pq

    from balanced_agg.rewards import check_source

    options = config.reward.custom_reward_function.get("reward_kwargs") or {}
    column = config.data.reward_fn_key
    for key, file in local_data_files(config):
        if file.suffix != ".parquet":
            continue
        try:  # pyarrow's own errors are ValueErrors too
            if column in pq.read_schema(file).names:
                for source in pq.read_table(file, columns=[column])[column].unique().to_pylist():
                    check_source(source, **options)
        except ValueError as error:
            raise ValueError(f"{key}: {file}: {error}") from error


def check_chat_template(config: DictConfig) -> None:
    """A local model directory must bring a chat template; hub ids are verl's to fetch."""
    model = config.actor_rollout_ref.model
    path = Path(model.get("tokenizer_path") or model.path).expanduser()
    if model.get("custom_chat_template") or not path.is_absolute() and not path.exists():
        return
    if not path.is_dir():
        raise ValueError(
            f"actor_rollout_ref.model.path: {path} is not a directory; set it to a model directory or hub id"
        )

    from transformers import AutoTokenizer

    if not AutoTokenizer.from_pretrained(path, trust_remote_code=model.get("trust_remote_code", False)).chat_template:
        raise ValueError(
            f"actor_rollout_ref.model.path: the tokenizer in {path} has no chat template, which verl needs to build "
            "prompts; set actor_rollout_ref.model.custom_chat_template, or choose an instruction-tuned model"
        )


def check_token_budget(config: DictConfig) -> None:
    """A micro-batch must have room for the longest sequence; verl finds out only after the first rollout."""
    actor = config.actor_rollout_ref.actor
    if not actor.use_dynamic_bsz:
        return
    longest = config.data.max_prompt_length + config.data.max_response_length
    ranks_a_sequence = actor.get("ulysses_sequence_parallel_size") or 1
    if actor.ppo_max_token_len_per_gpu * ranks_a_sequence < longest:
        raise ValueError(
            f"actor_rollout_ref.actor.ppo_max_token_len_per_gpu={actor.ppo_max_token_len_per_gpu} (x "
            f"{ranks_a_sequence} GPUs a sequence) is less than data.max_prompt_length + data.max_response_length = "
            f"{longest}; set it to {-(-longest // ranks_a_sequence)} or more, or shorten the sequences"
        )


def check_ray_cpus(config: DictConfig) -> None:
    """A Ray cluster that verl starts itself must have a CPU for every actor that asks for one, or it waits for ever.

    A cluster that runs already is not looked at, nor is a run on several nodes, which needs one.
    """
    ray_init = (config.get("ray_kwargs") or {}).get("ray_init") or {}
    if config.trainer.nnodes > 1 or ray_init.get("address") or os.environ.get("RAY_ADDRESS") or RAY_STARTED.exists():
        return
    ranks = config.trainer.n_gpus_per_node
    reward_model = config.reward.reward_model
    if reward_model.enable and reward_model.enable_resource_pool:
        ranks += reward_model.n_gpus_per_node * reward_model.nnodes
    storage = OmegaConf.select(config, "transfer_queue.backend.SimpleStorage.num_data_storage_units", default=0)
    # One more for TransferQueue's controller and one free, because placing any further actor takes a free one.
    needed = ranks * CPUS_PER_RANK + storage + 2
    available = ray_init.get("num_cpus") or os.cpu_count()
    if available < needed:
        raise ValueError(
            f"Ray would wait for ever: {ranks} ranks x {CPUS_PER_RANK} CPUs, {storage} TransferQueue storage units and "
            f"2 more need {needed} CPUs, but {available} are there; set ray_kwargs.ray_init.num_cpus={needed} (a "
            "logical count, it may exceed the real one), or lower trainer.n_gpus_per_node or "
            "transfer_queue.backend.SimpleStorage.num_data_storage_units"
        )
