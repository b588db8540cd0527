"""The plugin, the platform and the accelerators, as verl sees them."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from balanced_agg.commands.doctor.check import FAIL, OK, WARN, Check, gigabytes
from balanced_agg.commands.doctor.facts import Facts
from balanced_agg.commands.recipes import RECIPES

REINSTALL = "pip install this package again in the environment that has verl"


def check_verl(facts: Facts) -> Iterator[Check]:
    answer = facts.verl
    yield from _interpreter(facts)
    if "error" in answer:
        yield Check("verl plugin", FAIL, answer["error"], "see the versions above; try: python -c 'import verl'")
        return
    yield _plugin(answer)
    if not facts.refused("platform", "gpus"):
        yield _platform(facts)
    yield _accelerators(facts)


def _interpreter(facts: Facts) -> Iterator[Check]:
    """A line if scripts/train.sh would run another Python than the one that is looked at here."""
    checkout = RECIPES.parent
    if not (checkout / "scripts/train.sh").exists():  # an installed package
        return
    local = checkout / ".venv/bin/python"
    started = facts.environment.get("VERL_PYTHON") or (str(local) if local.exists() else "python3")
    # Not resolved: the Python of an environment is a link to one outside.
    if Path(shutil.which(started) or started).absolute().parent != Path(sys.executable).absolute().parent:
        detail = f"scripts/train.sh runs {started}, this report is about {sys.executable}"
        yield Check(
            "interpreter", WARN, detail, f"export VERL_PYTHON={sys.executable}, or run the other's balanced-agg"
        )


def _plugin(answer: dict) -> Check:
    def inactive(why: str, remedy: str) -> Check:
        return Check("verl plugin", FAIL, f"not active: {why}", remedy)

    allowed = {name.strip() for name in answer["plugin_policy"].lower().split(",")}
    if answer["plugin_error"]:
        return inactive(answer["plugin_error"], "see the versions above; verl itself hides this error")
    if "balanced_agg" not in answer["entry_points"]:
        return inactive("no entry point balanced_agg in the group verl.plugins", REINSTALL)
    if not allowed & {"auto", "balanced_agg"}:
        variable = f"VERL_USE_EXTERNAL_PLUGINS={answer['plugin_policy']}"
        return inactive(f"{variable} leaves it out", "unset VERL_USE_EXTERNAL_PLUGINS, or add balanced_agg to it")
    if not answer["plugin_loaded"]:
        return inactive("its entry point does not lead to balanced_agg.plugin.loss.in_verl", REINSTALL)
    return Check("verl plugin", OK, "active: verl takes loss_agg_mode=balanced, and agg_loss is ours under it")


def _platform(facts: Facts) -> Check:
    chosen = facts.environment.get("VERL_PLATFORM") or "unset"
    detected = facts.verl["platform"]
    if "error" in detected:
        remedy = "unset VERL_PLATFORM, or name a platform that verl knows"
        if facts.on_cpu:
            remedy = f"verl must load the plugin balanced_agg_cpu: unset VERL_USE_EXTERNAL_PLUGINS, or {REINSTALL}"
        return Check("platform", FAIL, f"VERL_PLATFORM={chosen}: {detected['error']}", remedy)
    devices = facts.verl["accelerators"].get("devices", [])
    if facts.chosen_by_train:
        detail = "cpu: no accelerator here, or vLLM built for CPUs: `balanced-agg train` sets VERL_PLATFORM=cpu"
        return Check("platform", OK, detail, "where you start verl yourself: export VERL_PLATFORM=cpu")
    found = f"{detected['vendor']} ({detected['device']}), VERL_PLATFORM={chosen}"
    if facts.on_cpu and devices:
        return Check("platform", WARN, f"{found}: the {len(devices)} GPUs go unused", "unset VERL_PLATFORM to use them")
    if not detected["available"]:
        built = facts.verl["accelerators"].get("built_for")
        why = "see the driver (nvidia-smi)" if built else "this torch is built without CUDA: pip install a CUDA build"
        return Check("platform", FAIL, f"{found}: torch finds no such device", f"{why}; or export VERL_PLATFORM=cpu")
    return Check("platform", OK, found)


def _accelerators(facts: Facts) -> Check:
    seen = facts.verl["accelerators"]
    if "error" in seen:
        return Check("GPUs", FAIL, seen["error"], "see the driver (nvidia-smi)")
    kinds = [f"{device['name']}, {gigabytes(device['memory'])}" for device in seen["devices"]]
    if kinds:
        return Check("GPUs", OK, "; ".join(f"{kinds.count(kind)} x {kind}" for kind in dict.fromkeys(kinds)))
    if facts.on_cpu:
        return Check("GPUs", OK, "none, and the cpu platform needs none")
    return Check("GPUs", WARN, "torch.cuda sees none", "on a node that only starts runs, this is as it should be")
