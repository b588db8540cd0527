"""Recipes composed in this process, as scripts/train.sh composes them."""

from pathlib import Path

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

ROOT = Path(__file__).parent.parent


def compose_recipe(recipe: str, *overrides: str, folder: Path = ROOT / "recipes") -> DictConfig:
    searchpath = f"hydra.searchpath=[pkg://verl.trainer.config,file://{ROOT}/configs]"
    with initialize_config_dir(str(folder), version_base=None):
        return compose(recipe, [searchpath, *overrides])
