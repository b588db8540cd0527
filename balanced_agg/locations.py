"""Where configs and recipes lie: at the top of a checkout, inside an installed package.

``pyproject.toml`` maps the folders configs/, recipes/ and data/ to sub-packages, so that both have the same names.
"""

from importlib.resources import files
from pathlib import Path

CONFIGS = Path(str(files("balanced_agg.configs")))
RECIPES = Path(str(files("balanced_agg.recipes")))
# Hydra finds verl's own files and ours from here. It counts in the primary config or on the command line only.
SEARCH_PATH = f"hydra.searchpath=[pkg://verl.trainer.config,file://{CONFIGS}]"


def recipe_names() -> list[str]:
    return sorted(file.stem for file in RECIPES.glob("*.yaml"))
