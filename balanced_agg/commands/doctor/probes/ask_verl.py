"""verl as a run would import it: its plugins, its platform, the accelerators that torch sees, and a recipe's config."""

import importlib
import os
import sys
from importlib.metadata import entry_points
from typing import Any

from balanced_agg.commands.doctor.probes import described

PLUGIN = "balanced_agg.plugin.loss.in_verl"


def probe(recipe: str | None = None, *overrides: str) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "entry_points": [entry.name for entry in entry_points(group="verl.plugins")],
        "plugin_policy": os.environ.get("VERL_USE_EXTERNAL_PLUGINS", "auto"),
    }
    try:
        import verl  # noqa: F401
    except Exception as error:
        return facts | {"error": f"import verl: {described(error)}"}
    # Before anything below imports the plugin itself: verl says nothing about one that it did not load.
    facts["plugin_loaded"] = PLUGIN in sys.modules
    facts["plugin_error"] = error_of(importlib.import_module, PLUGIN) or error_of(accept_balanced)
    facts["platform"] = answer_of(platform)
    facts["accelerators"] = answer_of(accelerators)
    if recipe:
        from balanced_agg.commands.doctor.probes.composing import examine

        facts["recipe"] = answer_of(examine, recipe, overrides)
    return facts


def error_of(function: Any, *arguments: Any) -> str | None:
    try:
        function(*arguments)
    except Exception as error:
        return described(error)
    return None


def answer_of(function: Any, *arguments: Any) -> dict[str, Any]:
    try:
        return function(*arguments)
    except Exception as error:
        return {"error": described(error)}


def accept_balanced() -> None:
    """Raise unless verl takes loss_agg_mode=balanced and aggregates through the plugin."""
    from verl.trainer.ppo import core_algos
    from verl.workers.config.actor import ActorConfig

    ActorConfig(strategy="fsdp2", rollout_n=2, ppo_micro_batch_size_per_gpu=1, loss_agg_mode="balanced")
    wrapper = getattr(core_algos.agg_loss, "_self_wrapper", None)  # where wrapt keeps it
    if getattr(wrapper, "__module__", None) != PLUGIN:
        raise RuntimeError("verl.trainer.ppo.core_algos.agg_loss is not wrapped")


def platform() -> dict[str, Any]:
    from verl.plugin.platform.platform_manager import get_platform

    chosen = get_platform()
    return {"vendor": chosen.vendor_name, "device": chosen.device_name, "available": chosen.is_available()}


def accelerators() -> dict[str, Any]:
    import torch

    devices = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    return {
        "built_for": torch.version.cuda or torch.version.hip,
        "devices": [{"name": device.name, "memory": device.total_memory} for device in devices],
    }
