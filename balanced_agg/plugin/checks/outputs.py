"""What a run writes and resumes from: loggers, folders, checkpoints."""

import importlib.util
import logging
import netrc
import os
import re
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

from omegaconf import DictConfig, OmegaConf

from balanced_agg.plugin.checks.batches import FSDP, all_gpus, shards_of_a_copy
from balanced_agg.plugin.checks.cluster import starts_ray
from balanced_agg.plugin.checks.model import local_model, model_config
from balanced_agg.plugin.guard import checkpoints
from balanced_agg.plugin.refusal import Refusal
from balanced_agg.untrusted import Unreadable, read_json

# What verl 0.9.1 imports for a logger; it asserts the names, but when everything runs.
LOGGERS = {
    "console": None,
    "file": None,
    "wandb": "wandb",
    "tracking": "wandb",
    "tensorboard": "tensorboard",
    "mlflow": "mlflow",
    "swanlab": "swanlab",
    "vemlp_wandb": "volcengine_ml_platform",
    "clearml": "clearml",
    "trackio": "trackio",
    "rl_insight": None,
}
# What decides the shapes of the weights.
SHAPES = ("model_type", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size")

# `wandb login` writes to netrc under the name of the server, or for wandb's own under this older name.
WANDB_HOST = "api.wandb.ai"


def check_loggers(config: DictConfig) -> None:
    """Check that verl knows the loggers, that they are installed, and that wandb has a key where it is online."""
    named = config.trainer.logger
    named = [named] if isinstance(named, str) else list(named or [])
    for name in named:
        if name not in LOGGERS:
            raise Refusal("trainer.logger", f"={name} is unknown", f"set it to some of {', '.join(LOGGERS)}")
        if LOGGERS[name] and importlib.util.find_spec(LOGGERS[name]) is None:
            raise Refusal("trainer.logger", f"={name} needs {LOGGERS[name]}", "pip install it, or leave it out")
    variables = OmegaConf.select(config, "ray_kwargs.ray_init.runtime_env.env_vars") or {}
    mode = variables.get("WANDB_MODE", os.environ.get("WANDB_MODE", "online"))
    # The nodes of a cluster have environments of their own.
    if {"wandb", "tracking"} & {*named} and mode == "online" and starts_ray(config) and not logged_in():
        raise Refusal(
            "trainer.logger",
            " has wandb, WANDB_MODE is online and there is no key",
            "export WANDB_API_KEY, or run `wandb login`, or set WANDB_MODE=offline, or trainer.logger=[console,file]",
        )


def logged_in() -> bool:
    """Whether there is a key for wandb. The key itself is not read, and wandb's server is not asked."""
    import wandb

    server = os.environ.get("WANDB_BASE_URL")
    hosts = [urlsplit(server).netloc] if server else [urlsplit(wandb.Settings().base_url).netloc, WANDB_HOST]
    in_environment = any(os.environ.get(name) for name in ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE"))
    return in_environment or any(map(known_to_netrc, hosts))


def known_to_netrc(host: str) -> bool:
    file = Path(os.environ.get("NETRC", "~/.netrc")).expanduser()
    try:
        return host in netrc.netrc(file).hosts
    except FileNotFoundError:
        return False
    except netrc.NetrcParseError:  # its message may quote the line
        raise ValueError(f"{file} cannot be read as a netrc file") from None


def check_folders(config: DictConfig) -> None:
    """Check that the folders of a run can be written to; the first write may come after an hour."""
    keys = ["trainer.rollout_data_dir", "trainer.validation_data_dir"]
    keys += ["trainer.default_local_dir"] if config.trainer.save_freq > 0 else []
    for key in keys:
        named = OmegaConf.select(config, key)
        if not named or "://" in named:
            continue
        there = nearest_existing(named)
        if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
            raise Refusal(key, f"={named} cannot be written: {there} is no writable folder", "set it to another")


def nearest_existing(path: str | Path) -> Path:
    """The path, or the nearest folder above it that exists: that is the disk it will be on."""
    path = Path(path).absolute()
    return next(folder for folder in (path, *path.parents) if folder.exists())


def check_resume(config: DictConfig) -> None:
    """Check that the checkpoint that a run would resume from is one, of as many ranks and of this model."""
    trainer, gpus = config.trainer, all_gpus(config)
    if trainer.resume_mode == "disable":
        return
    if trainer.resume_mode == "resume_path":
        path = trainer.resume_from_path
        key, named = "trainer.resume_from_path", f"={path}"
        if not isinstance(path, str) or not re.search(r"global_step_\d+/?$", path) or not Path(path).is_dir():
            raise Refusal(key, f"{named} is no checkpoint", "set it to a folder …/global_step_N that is there")
        folder = Path(path)
        checkpoints.refuse_incomplete(config)
    else:
        folder = newest_checkpoint(Path(trainer.default_local_dir))
        if folder is None:
            return
        key, named = "trainer.default_local_dir", f"={folder.parent} has checkpoints, and {folder.name}"
    remedy = "set run.dir to another folder, or trainer.resume_mode=disable"
    shards = [path.name for path in (folder / "actor").glob("model_world_size_*_rank_*.pt")]
    if sizes := {int(name.split("_")[3]) for name in shards} - {gpus}:
        what = f"{named} is of {max(sizes)} ranks, but trainer.nnodes x trainer.n_gpus_per_node = {gpus}"
        raise Refusal(key, what, f"{remedy}, or use as many ranks")
    saved = actor_shards(folder) if config.actor_rollout_ref.actor.strategy == "fsdp2" else None
    if saved not in (None, shards_of_a_copy(config)):
        what = f" spreads the weights over {shards_of_a_copy(config)} ranks, but {folder} has them over {saved}"
        raise Refusal(f"{FSDP}.fsdp_size", what, f"set it to {saved}; or {remedy}")
    if other := other_model(config, folder):
        raise Refusal(key, f"{named} is of another model than {other}", remedy)


def actor_shards(folder: Path) -> int | None:
    """The ranks over which a checkpoint of FSDP2's has one copy of the actor's weights; None where no file tells.

    verl loads it over as many alone.
    """
    import torch
    from torch.distributed.tensor import DTensor

    # It warns of a mesh without process groups, on which nothing is computed here.
    logging.getLogger("torch.distributed.device_mesh").setLevel(logging.ERROR)
    for file in (folder / "actor").glob("model_world_size_*_rank_*.pt"):
        with suppress(Exception):  # of torch, pickle or zip: the guard tells which checkpoints are complete
            state = torch.load(file, map_location="cpu", mmap=True, weights_only=True)
            return next(int(x.device_mesh.mesh.shape[-1]) for x in state.values() if isinstance(x, DTensor))
    return None


def newest_checkpoint(run: Path) -> Path | None:
    """The checkpoint that trainer.resume_mode=auto resumes; where the guard has marked none, verl's own choice."""
    if completed := checkpoints.completed(run):
        return completed[-1]
    tracker = run / "latest_checkpointed_iteration.txt"
    step = tracker.read_bytes()[:20].decode(errors="replace").strip() if tracker.is_file() else ""
    folder = run / f"global_step_{step}"
    return folder if step.isdecimal() and folder.is_dir() else None


def other_model(config: DictConfig, folder: Path) -> str | None:
    """How the model of the config differs from that of the checkpoint in `folder`; None if it does not."""
    saved, model = folder / "actor/huggingface/config.json", local_model(config)
    if not saved.is_file() or model is None:
        return None
    try:
        was = read_json(saved)
    except Unreadable:  # no run resumes from it
        return None
    was, now = was if isinstance(was, dict) else {}, model_config(model)
    was |= was["text_config"] if isinstance(was.get("text_config"), dict) else {}
    if differ := [key for key in SHAPES if key in was and key in now and was[key] != now[key]]:
        return f"actor_rollout_ref.model.path={model}: {differ[0]} was {was[differ[0]]} and is {now[differ[0]]}"
    return None
