"""The model: that it is there, complete, and made for sequences as long as these."""

import functools
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from balanced_agg.plugin.checks.cluster import starts_ray
from balanced_agg.plugin.refusal import Refusal
from balanced_agg.untrusted import Unreadable, read_json

KEY = "actor_rollout_ref.model.path"


def local_model(config: DictConfig) -> Path | None:
    """The model's directory on this machine; None if it is remote, or not there."""
    path = Path(config.actor_rollout_ref.model.path).expanduser()
    return path if "://" not in str(config.actor_rollout_ref.model.path) and path.is_dir() else None


def config_folder(config: DictConfig) -> Path | None:
    """The directory on this machine that has the model's ``config.json``: its own, or one of the hub's cache."""
    if folder := local_model(config):
        return folder
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    with suppress(HFValidationError):  # no hub id
        found = try_to_load_from_cache(config.actor_rollout_ref.model.path, "config.json")
        return Path(found).parent if isinstance(found, str) and Path(found).is_file() else None
    return None


def check_chat_template(config: DictConfig) -> None:
    """Check that the model is where its path says, and that its tokenizer has a chat template."""
    model = config.actor_rollout_ref.model
    name = model.get("tokenizer_path") or model.path
    key = "actor_rollout_ref.model.tokenizer_path" if model.get("tokenizer_path") else KEY
    path = Path(name).expanduser()
    if "://" in name:
        return
    if not path.is_absolute() and not path.exists() and name.count("/") <= 1:
        return refuse_offline(config, key, name)
    if not path.is_dir():
        raise Refusal(key, f": {path} is not a directory", "set it to a model directory or hub id")
    tokenizer = load_tokenizer(path, model.get("trust_remote_code", False))
    if not model.get("custom_chat_template") and not tokenizer.chat_template:
        raise Refusal(
            key,
            f": the tokenizer in {path} has no chat template, which verl needs to build prompts",
            "set actor_rollout_ref.model.custom_chat_template, or choose an instruction-tuned model",
        )


def refuse_offline(config: DictConfig, key: str, hub_id: str) -> None:
    """Refuse a hub id that is not in the hub's cache where HF_HUB_OFFLINE keeps verl from fetching it."""
    variables = OmegaConf.select(config, "ray_kwargs.ray_init.runtime_env.env_vars") or {}
    offline = str(variables.get("HF_HUB_OFFLINE", os.environ.get("HF_HUB_OFFLINE", "0"))).lower()
    if offline not in ("1", "true", "yes", "on") or not starts_ray(config):  # the nodes of a cluster have their own
        return

    from huggingface_hub import try_to_load_from_cache

    if not isinstance(try_to_load_from_cache(hub_id, "tokenizer_config.json"), str):
        raise Refusal(
            key,
            f"={hub_id} is no directory here and not in the hub's cache, and HF_HUB_OFFLINE is on",
            f"set it to a model directory, or `hf download {hub_id}` first, or export HF_HUB_OFFLINE=0",
        )


@functools.lru_cache
def load_tokenizer(path: Path, trust_remote_code: bool) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(path, trust_remote_code=trust_remote_code)
    except Exception as error:  # whatever the tokenizer's own class raises
        first_line = str(error).partition("\n")[0]
        what = f": the tokenizer in {path} cannot be loaded ({first_line})"
        raise Refusal(KEY, what, "copy the model's directory again") from None


def check_model_files(config: DictConfig) -> None:
    """Check that a local model directory has a config and complete weights."""
    folder = local_model(config)
    if folder is None:
        return
    model_config(folder)
    index = folder / "model.safetensors.index.json"
    named = set(map(str, json_object(index, "weight_map").values())) if index.is_file() else set()
    if absent := sorted(name for name in named if not (folder / name).is_file()):
        raise Refusal(KEY, f": {folder} lacks {', '.join(absent)}, which its index names", "copy the directory again")
    files = sorted(folder.glob("*.safetensors"))
    if not files and not any(folder.glob("*.bin")):
        raise Refusal(KEY, f": {folder} has no weights (*.safetensors)", "set it to a directory that has")

    from safetensors import SafetensorError, safe_open

    for file in files:
        try:
            with safe_open(file, "numpy"):  # it holds the size of the file against its header
                pass
        except (SafetensorError, OSError) as error:
            raise Refusal(KEY, f": {file} is incomplete ({error})", "copy it again") from None


def model_config(folder: Path) -> dict[str, Any]:
    """The model's ``config.json``, that of its text part where it has several."""
    config = json_object(folder / "config.json")
    return config | json_object(folder / "config.json", "text_config") if "text_config" in config else config


def json_object(file: Path, key: str | None = None) -> dict[str, Any]:
    """What a file of the model's directory holds, or holds under `key`."""
    try:
        found = read_json(file)
        found = found if key is None else found[key]
        if isinstance(found, dict):
            return found
        why = f"{file} holds no object{f' under {key}' if key else ''}"
    except Unreadable as error:
        why = str(error)
    except (KeyError, TypeError):
        why = f"{file} has no {key}"
    raise Refusal(KEY, f": {why}", "set it to a complete model directory")


def check_fused_kernels(config: DictConfig) -> None:
    """Check that verl's fused kernels can read the model's head: FSDP2 has it in shards, where verl crashes, unless it
    is tied to the embeddings.
    """
    model, folder = config.actor_rollout_ref.model, config_folder(config)
    if not model.get("use_fused_kernels") or config.actor_rollout_ref.actor.strategy != "fsdp2" or folder is None:
        return
    if not has_tied_head(model_config(folder) | dict(model.get("override_config") or {})):
        raise Refusal(
            "actor_rollout_ref.model.use_fused_kernels",
            "=True: under actor_rollout_ref.actor.strategy=fsdp2 they need a model whose head is its embeddings "
            f"(tie_word_embeddings), and {model.path} has one of its own",
            "set it to False",
        )


def has_tied_head(model: dict[str, Any]) -> bool:
    """Whether the output head of a config.json is the embeddings; where it is silent, what transformers takes."""
    if "tie_word_embeddings" in model:
        return bool(model["tie_word_embeddings"])
    from transformers import CONFIG_MAPPING

    known = model.get("model_type") in CONFIG_MAPPING
    return bool(CONFIG_MAPPING[model["model_type"]]().tie_word_embeddings) if known else True


def check_context(config: DictConfig) -> None:
    """Check that the model has positions for the longest sequence; vLLM would truncate responses silently."""
    data, rollout = config.data, config.actor_rollout_ref.rollout
    longest = data.max_prompt_length + data.max_response_length
    window, window_key = rollout.get("max_model_len"), "actor_rollout_ref.rollout.max_model_len"
    positions_key = "actor_rollout_ref.model.override_config.max_position_embeddings"
    positions, folder = OmegaConf.select(config, positions_key), local_model(config)
    if positions is None and folder:
        positions = model_config(folder).get("max_position_embeddings")
    if window and positions and window > positions:
        raise Refusal(window_key, f"={window} is more than the model's {positions} positions", "set it to null")
    for key, limit in ((window_key, window), (positions_key, positions)):
        if limit and longest > limit:
            raise Refusal(
                "data.max_prompt_length + data.max_response_length",
                f" = {longest} tokens are more than the {limit} of {key}",
                f"set data.max_response_length to {limit - data.max_prompt_length} or less, or that key to more",
            )
