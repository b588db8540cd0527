"""A recipe composed as `balanced-agg train` and verl compose it: what it asks for, and what refuses it."""

import inspect
import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException
from verl.trainer.ppo.utils import need_critic, need_reference_policy
from verl.utils import config as verl_config
from verl.utils.device import auto_set_device

from balanced_agg.commands.doctor.probes import described
from balanced_agg.commands.recipes import compose_recipe
from balanced_agg.plugin.checks import CHECKS, CPUS_PER_RANK, local_data_files, needed_cpus
from balanced_agg.plugin.guard import checkpoints
from balanced_agg.plugin.refusal import Refusal


def examine(recipe: str, overrides: Sequence[str]) -> dict[str, Any]:
    """{"usage_error": why} if it does not compose, else {"asks", "refusals", "data"}, from the functions below."""
    try:
        config = composed(recipe, overrides)
    except (HydraException, OmegaConfBaseException) as error:
        # Hydra appends its search path, or a link to its manual.
        what = str(error).partition("Config search path")[0].partition("See https://hydra.cc")[0]
        return {"usage_error": " ".join(what.split())}
    return {"asks": asks(config), "refusals": refusals(config), "data": list(data_files(config))}


def composed(recipe: str, overrides: Sequence[str]) -> DictConfig:
    """The resolved config as verl's main sees it, which is where the launch checks run."""
    config = compose_recipe(recipe, overrides, return_hydra_config=True)
    HydraConfig.instance().set_config(config)
    with open_dict(config):
        del config["hydra"]
    OmegaConf.resolve(config)
    auto_set_device(config)
    return config


def asks(config: DictConfig) -> dict[str, Any]:
    """Numbers and paths of the config that can be held against a machine; None for a key it does not have."""

    def select(key: str, default: Any = None) -> Any:
        return OmegaConf.select(config, key, default=default)

    nodes, ranks_a_node = config.trainer.nnodes, config.trainer.n_gpus_per_node
    loggers = config.trainer.logger
    return {
        "mode": config.actor_rollout_ref.actor.loss_agg_mode,
        "device": config.trainer.device,
        "nodes": nodes,
        "ranks_a_node": ranks_a_node,
        "cpus_a_rank": CPUS_PER_RANK,
        "ray_cpus": needed_cpus(config),
        "ray_address": select("ray_kwargs.ray_init.address"),
        "num_cpus": select("ray_kwargs.ray_init.num_cpus"),
        "num_gpus": select("ray_kwargs.ray_init.num_gpus"),
        "object_store": select("ray_kwargs.ray_init.object_store_memory"),
        "run_dir": select("run.dir"),
        "checkpoint_dir": config.trainer.default_local_dir,
        "checkpoints": checkpoints_on_disk(config, guarded=os.environ.get("BALANCED_AGG_GUARD") == "1"),
        "model_size": select("run.model_size"),
        "model": model(config),
        "loggers": [loggers] if isinstance(loggers, str) else list(loggers),
        "wandb_mode": select("ray_kwargs.ray_init.runtime_env.env_vars.WANDB_MODE"),
    }


def checkpoints_on_disk(config: DictConfig, guarded: bool) -> int | None:
    """How many checkpoints lie on disk at most; None if that cannot be told.

    Args:
        guarded: whether the guard is switched on; it leaves asynchronous saving to verl.
    """
    trainer = config.trainer
    if trainer.save_freq <= 0:
        return 0
    guarded = guarded and not OmegaConf.select(config, "actor_rollout_ref.actor.checkpoint.async_save")
    at_once = checkpoints.most_on_disk(checkpoints.to_keep(trainer, need_critic(config)), guarded)
    made = math.ceil(trainer.total_training_steps / trainer.save_freq) if trainer.total_training_steps else None
    return min((count for count in (at_once, made) if count), default=None)


def model(config: DictConfig) -> dict[str, Any]:
    """Where the weights come from: a folder here, or a hub id, in the hub's cache or not."""
    path = config.actor_rollout_ref.model.path
    folder = Path(path).expanduser()
    if "://" in path:
        return {"path": path, "kind": "remote"}
    if folder.is_absolute() or folder.exists():
        return {"path": path, "kind": "folder"}
    from huggingface_hub import try_to_load_from_cache

    return {"path": path, "kind": "hub", "cached": isinstance(try_to_load_from_cache(path, "config.json"), str)}


def data_files(config: DictConfig) -> Iterator[dict[str, Any]]:
    """Key, path and rows of each local data file that is there; rows are None where they cannot be counted."""
    import pyarrow.parquet as pq

    for key, file in local_data_files(config):
        if file.exists():
            try:
                rows = pq.read_metadata(file).num_rows
            except (ValueError, OSError):  # no parquet file, which verl reads too, or a broken one, which is refused
                rows = None
            yield {"key": key, "file": str(file), "rows": rows}


def refusals(config: DictConfig) -> list[dict[str, str]]:
    """What the launch checks have against the config, each fault once; a launch stops at the first.

    Several checks may meet one fault: what counts is the first refusal of a key. Any other exception after a refusal
    comes of it, since a check relies on those before it. As at a launch, verl's own validation has the last word.
    """
    found: dict[str, dict[str, str]] = {}
    for check in CHECKS:
        name = check.__name__.removeprefix("check_")
        try:
            check(config)
        except Refusal as refusal:
            said = {"check": name, "what": f"{refusal.key}{refusal.what}", "remedy": refusal.remedy}
            found.setdefault(refusal.key, said)
        except Exception as error:
            if not found:
                found[name] = {"check": name, "what": described(error), "remedy": ""}
    if not found:
        validate = inspect.unwrap(verl_config.validate_config)
        try:
            validate(config, use_reference_policy=need_reference_policy(config), use_critic=need_critic(config))
        except Exception as error:
            return [{"check": "verl's validation", "what": described(error), "remedy": ""}]
    return list(found.values())
