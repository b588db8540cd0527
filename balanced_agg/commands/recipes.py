"""The recipes and config files, which are in the package wherever it is installed, and how a run composes them."""

import os
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from balanced_agg.commands.overrides import override, quote_paths

if TYPE_CHECKING:
    from omegaconf import DictConfig

# Folders at the top of a checkout; sub-packages of an installed package.
CONFIGS, RECIPES = (Path(str(files(f"balanced_agg.{folder}"))) for folder in ("configs", "recipes"))


def recipe_names() -> list[str]:
    return sorted(path.stem for path in RECIPES.glob("*.yaml"))


def check_recipe_name(name: str) -> None:
    """ValueError, with the recipes that there are, for the name of none."""
    if name not in recipe_names():
        raise ValueError(f"{name} is no recipe; recipes: {' '.join(recipe_names())}")


def root() -> Path:
    """The working directory of runs, which holds artifacts/ and outputs/: BALANCED_AGG_ROOT, else the current one."""
    return Path(os.environ.get("BALANCED_AGG_ROOT") or ".").absolute()


def hydra_overrides() -> list[str]:
    """What Hydra has to be told before any recipe composes: where the files that it builds on are, and `root`."""
    return ["hydra.searchpath=[pkg://verl.trainer.config,pkg://balanced_agg.configs]", override("run.root", root())]


def compose_recipe(name: str, overrides: Sequence[str] = (), folder: Path = RECIPES, **options: Any) -> "DictConfig":
    """The config of a run, interpolations unresolved; Hydra's own errors. `options` are those of ``hydra.compose``."""
    from hydra import compose, initialize_config_dir

    with initialize_config_dir(str(folder), version_base=None):
        return compose(name, [*hydra_overrides(), *quote_paths(overrides, root())], **options)
