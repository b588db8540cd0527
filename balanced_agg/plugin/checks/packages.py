"""Packages that verl uses where they are installed, and that break its runs where they do not fit it."""

import importlib.util
import re
from importlib.machinery import ModuleSpec
from importlib.metadata import PackageNotFoundError, requires, version

from omegaconf import DictConfig

from balanced_agg.plugin.refusal import Refusal


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
        why = f"{type(error).__name__}: {' '.join(str(error).split())}"
        place = found.origin or ", ".join(found.submodule_search_locations or ())
        return f"{_version()} in {place} breaks verl, which imports AutoModelForCausalLMWithValueHead from it ({why})"
    return None


def _version() -> str:
    try:
        return version("trl")
    except PackageNotFoundError:
        return "of an unknown version"


def trl_remedy() -> str:
    """How to get rid of it, or what verl itself requires."""
    wanted = (requirement.partition(";")[0].strip() for requirement in requires("verl") or [])
    fitting = next((name for name in wanted if re.match(r"trl\b", name)), None)
    other = f", or pip install --no-deps '{fitting}', which verl asks for" if fitting else ""
    return f"pip uninstall trl, which no run needs{other}"
