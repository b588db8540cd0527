"""Packages that verl uses where they are installed, and that break its runs where they do not fit it."""

import importlib.util
import re
import shlex
import shutil
import sys
from importlib.machinery import ModuleSpec
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

import torch
from omegaconf import DictConfig, OmegaConf

from balanced_agg.plugin.checks.cluster import chosen_hardware
from balanced_agg.plugin.cpu import cpu_is_chosen
from balanced_agg.plugin.installation import WHEELS_OF_VERL, setup_command
from balanced_agg.plugin.refusal import Refusal

ATTENTION = "actor_rollout_ref.model.override_config.attn_implementation"
SEQUENCE_PARALLEL = "actor_rollout_ref.actor.ulysses_sequence_parallel_size"
FLASH = "flash_attention_2"  # what verl asks of a model by itself (HFModelConfig)
# Attentions of transformers that verl does not have exchange anything between the ranks of a sequence.
BY_RANK = ("eager", "sdpa", "flex_attention")


def check_torch(config: DictConfig) -> None:
    """Check that torch is built for the GPUs that a run on them finds here."""
    on_gpus = config.trainer.device != "cpu" and chosen_hardware() != "cpu"
    if on_gpus and (problem := torch_problem()):
        what = f"={config.trainer.device}: torch {problem}"
        raise Refusal("trainer.device", what, f"{setup_command('--gpu')}, and that environment; or set hardware=cpu")


def torch_problem() -> str | None:
    """How torch is blind to the NVIDIA GPUs of this machine; None where it is not, or where there are none."""
    if torch.version.cuda or torch.version.hip or not (shutil.which("nvidia-smi") or Path("/dev/nvidia0").exists()):
        return None
    return f"{torch.__version__} in {sys.prefix} is built without CUDA, and this machine has NVIDIA GPUs"


def check_attention(config: DictConfig) -> None:
    """Check that flash-attn is there where verl's FSDP engine uses it, and that sequence parallelism does.

    The engine packs sequences without it, too; what needs it is the model's attention, by verl's default. Ulysses
    exchanges heads within flash attention alone: under any other each rank attends to its own part of a sequence only.
    """
    actor = config.actor_rollout_ref.actor
    if actor.strategy not in ("fsdp", "fsdp2"):
        return
    attention = OmegaConf.select(config, ATTENTION, default=FLASH) or "sdpa"  # transformers' choice
    ranks = actor.get("ulysses_sequence_parallel_size") or 1
    if ranks > 1 and attention in BY_RANK:
        what = f"={ranks} with attn_implementation={attention}: tokens would not see those of other ranks"
        raise Refusal(SEQUENCE_PARALLEL, what, f"set it to 1, or {ATTENTION}={FLASH}")
    elsewhere = OmegaConf.select(config, "ray_kwargs.ray_init.runtime_env.py_executable")
    on_cuda = config.trainer.device == "cuda" and not cpu_is_chosen()
    if attention == FLASH and on_cuda and not elsewhere and (problem := flash_attn_problem()):
        what = f"={attention}{'' if OmegaConf.select(config, ATTENTION) else ', which is the default,'} needs {problem}"
        raise Refusal(ATTENTION, what, f"{flash_attn_remedy()}; or set ++{ATTENTION}=sdpa and {SEQUENCE_PARALLEL}=1")


def flash_attn_problem() -> str | None:
    """Why a model cannot have flash attention 2 here; None where it can."""
    from transformers.utils import is_kernels_available

    try:
        from flash_attn import flash_attn_varlen_func  # noqa: F401
    except (ImportError, OSError) as error:
        # Else transformers takes the same functions from the hub.
        return None if is_kernels_available() else f"flash-attn, which is not there ({_short(error)})"
    return None


def flash_attn_remedy() -> str:
    """How to get the flash-attn that verl pins, in the Python that there are wheels for."""
    if sys.version_info[:2] != (3, 12):
        return f"{setup_command('--gpu')}, with Python 3.12, for which flash-attn has wheels"
    pinned = _required_by_verl("flash-attn") or "flash-attn"
    return shlex.join(["pip", "install", "--no-deps", "--only-binary", ":all:", "--index-url", WHEELS_OF_VERL, pinned])


def _required_by_verl(name: str) -> str | None:
    """verl's own requirement of a package, under any of its extras."""
    wanted = (requirement.partition(";")[0].strip() for requirement in requires("verl") or [])
    return next((found for found in wanted if re.match(rf"{name}\b", found)), None)


def check_trl(config: DictConfig) -> None:
    """Check that verl can import what its FSDP engine takes from TRL, where that is installed; workers do at start."""
    if config.actor_rollout_ref.actor.strategy.startswith("fsdp") and (problem := trl_problem()):
        raise Refusal("trl", f" {problem}", trl_remedy())


def trl_problem() -> str | None:
    """Why an installed TRL breaks verl's FSDP engine; None where it is not installed, or fits.

    Imports TRL as verl does (``apply_monkey_patch`` of verl/models/transformers/monkey_patch.py), which asks only
    whether it is there.
    """
    try:
        found = importlib.util.find_spec("trl")
    except ValueError:  # loaded from nowhere
        found = ModuleSpec("trl", None)
    if found is None:
        return None
    try:
        try:
            from trl.experimental.ppo import AutoModelForCausalLMWithValueHead
        except ImportError:
            from trl import AutoModelForCausalLMWithValueHead  # noqa: F401
    except Exception as error:  # whatever the import of a package raises
        place, why = found.origin or ", ".join(found.submodule_search_locations or ()), _short(error)
        return f"{_version()} in {place} breaks verl, which imports AutoModelForCausalLMWithValueHead from it ({why})"
    return None


def _short(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _version() -> str:
    try:
        return version("trl")
    except PackageNotFoundError:
        return "of an unknown version"


def trl_remedy() -> str:
    """How to get rid of it, or what verl itself requires."""
    fitting = _required_by_verl("trl")
    other = f", or pip install --no-deps '{fitting}', which verl asks for" if fitting else ""
    return f"pip uninstall trl, which no run needs{other}"
