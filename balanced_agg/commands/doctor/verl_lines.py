"""The plugin, the platform and the accelerators, as verl sees them."""

import os
import sys
from collections import Counter
from collections.abc import Iterator
from importlib.metadata import entry_points

import torch
from verl.plugin.platform.platform_manager import get_platform
from verl.trainer.ppo import core_algos
from verl.workers.config.actor import ActorConfig

from balanced_agg.commands import train
from balanced_agg.commands.doctor.check import FAIL, OK, WARN, Check, described, gigabytes
from balanced_agg.commands.doctor.recipe import Recipe
from balanced_agg.plugin.checks.packages import (
    flash_attn_problem,
    flash_attn_remedy,
    torch_problem,
    trl_problem,
    trl_remedy,
)
from balanced_agg.plugin.cpu import cpu_is_chosen
from balanced_agg.plugin.installation import setup_command
from balanced_agg.plugin.wrapping import misfits

PLUGIN = "balanced_agg.plugin.loss.in_verl"
REINSTALL = "pip install this package again in the environment that has verl"


def check_packages(recipe: Recipe) -> Iterator[Check]:
    if not recipe.refused_by("trl") and (problem := trl_problem()):
        yield Check("trl", FAIL, problem, trl_remedy())
    # What a recipe needs of it is for its launch check to say.
    if not (recipe.config or cpu_is_chosen()) and (problem := flash_attn_problem()):
        yield Check("flash-attn", WARN, f"verl's default attention needs {problem}", flash_attn_remedy())


def check_devices(recipe: Recipe) -> Iterator[Check]:
    if not recipe.refused_by("platform", "torch", "gpus"):
        yield check_platform()
    yield check_accelerators()


def check_plugin() -> Check:
    """Tell whether verl has loaded the plugin, or the first thing that is in its way, about which verl is silent.

    verl has been imported, and nothing else that imports the plugin.
    """

    def inactive(why: str, remedy: str) -> Check:
        return Check("verl plugin", FAIL, f"not active: {why}", remedy)

    loaded = PLUGIN in sys.modules
    policy = os.environ.get("VERL_USE_EXTERNAL_PLUGINS", "auto")
    if "balanced_agg" not in entry_points(group="verl.plugins").names:
        return inactive("no entry point balanced_agg in the group verl.plugins", REINSTALL)
    if not {name.strip() for name in policy.lower().split(",")} & {"auto", "balanced_agg"}:
        remedy = "unset VERL_USE_EXTERNAL_PLUGINS, or add balanced_agg to it"
        return inactive(f"VERL_USE_EXTERNAL_PLUGINS={policy} leaves it out", remedy)
    try:
        get_platform()
    except Exception as error:
        platform = f"VERL_PLATFORM={os.environ.get('VERL_PLATFORM') or 'unset'}"
        remedy = "unset VERL_PLATFORM, or name a platform that verl knows"
        if cpu_is_chosen():
            remedy = f"verl must load the plugin balanced_agg_cpu: unset VERL_USE_EXTERNAL_PLUGINS, or {REINSTALL}"
        return Check("platform", FAIL, f"{platform}: {described(error)}", remedy)
    try:
        accept_balanced()
    except Exception as error:  # whatever an import raises
        return inactive(described(error), "see the versions above; verl itself hides this error")
    if not loaded:
        return inactive(f"its entry point does not lead to {PLUGIN}", REINSTALL)
    return Check("verl plugin", OK, "active: verl takes loss_agg_mode=balanced, and agg_loss is ours under it")


def accept_balanced() -> None:
    """Raise unless verl takes loss_agg_mode=balanced and aggregates through the plugin, or if a contract is broken."""
    from balanced_agg.plugin.loss.in_verl import WRAPPERS

    if reasons := misfits(WRAPPERS):
        raise RuntimeError("; ".join(reasons))
    ActorConfig(strategy="fsdp2", rollout_n=2, ppo_micro_batch_size_per_gpu=1, loss_agg_mode="balanced")
    wrapper = getattr(core_algos.agg_loss, "_self_wrapper", None)  # where wrapt keeps it
    if getattr(wrapper, "__module__", None) != PLUGIN:
        raise RuntimeError("verl.trainer.ppo.core_algos.agg_loss is not wrapped")


def check_platform() -> Check:
    if problem := torch_problem():
        remedy = f"{setup_command('--gpu')}, and that environment; here runs only hardware=cpu"
        return Check("platform", WARN if cpu_is_chosen() else FAIL, f"torch {problem}", remedy)
    if cpu_is_chosen() and train.without_accelerator():
        detail = "cpu: no accelerator here, or vLLM built for CPUs: `balanced-agg train` sets VERL_PLATFORM=cpu"
        return Check("platform", OK, detail, "where you start verl yourself: export VERL_PLATFORM=cpu")
    detected = get_platform()
    chosen = os.environ.get("VERL_PLATFORM") or "unset"
    found = f"{detected.vendor_name} ({detected.device_name}), VERL_PLATFORM={chosen}"
    if cpu_is_chosen() and (unused := torch.cuda.device_count()):
        return Check("platform", WARN, f"{found}: the {unused} GPUs go unused", "unset VERL_PLATFORM to use them")
    if not detected.is_available():
        why = (
            "see the driver (nvidia-smi)"
            if torch.version.cuda or torch.version.hip
            else f"this torch is built without CUDA: {setup_command('--gpu')}"
        )
        return Check("platform", FAIL, f"{found}: torch finds no such device", f"{why}; or export VERL_PLATFORM=cpu")
    return Check("platform", OK, found)


def check_accelerators() -> Check:
    try:
        found = map(torch.cuda.get_device_properties, range(torch.cuda.device_count()))
        kinds = Counter(f"{device.name}, {gigabytes(device.total_memory)}" for device in found)
    except Exception as error:  # of a driver
        return Check("GPUs", FAIL, described(error), "see the driver (nvidia-smi)")
    if kinds:
        return Check("GPUs", OK, "; ".join(f"{count} x {kind}" for kind, count in kinds.items()))
    if cpu_is_chosen():
        return Check("GPUs", OK, "none, and the cpu platform needs none")
    return Check("GPUs", WARN, "torch.cuda sees none", "on a node that only starts runs, this is as it should be")
