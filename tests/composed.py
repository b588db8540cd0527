"""Recipes composed in this process, as `balanced-agg train` composes them, and data files for them."""

import pickle
from functools import cache
from pathlib import Path
from typing import Any

import omegaconf.base
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigResult, ConfigSource
from omegaconf import DictConfig, OmegaConf

from balanced_agg.commands import recipes

ROOT = Path(__file__).parent.parent

Plugins.instance()  # which loads the module of the class below anew
_Packages = SourcesRegistry.instance().resolve("pkg")
_read_config = _Packages._read_config
_found: dict[Any, bytes] = {}  # pickled, since pickle copies such a config five times as fast as deepcopy


def _read_once(source: ConfigSource, file: Any) -> ConfigResult:
    """Hydra reads the 35 files of verl and of ours anew for each composition, which is two thirds of its time."""
    if file not in _found:
        _found[file] = pickle.dumps(_read_config(source, file))
    return pickle.loads(_found[file])


_Packages._read_config = _read_once


# OmegaConf parses an interpolation anew whenever a value is read or copied, a sixth of such a test's time. What the
# parser returns is only read.
omegaconf.base.parse = cache(omegaconf.base.parse)


@cache
def _composed(recipe: str, overrides: tuple[str, ...], folder: Path, root: Path) -> bytes:
    return pickle.dumps(recipes.compose_recipe(recipe, overrides, folder))


def compose_recipe(recipe: str, *overrides: str, folder: Path = recipes.RECIPES) -> DictConfig:
    """Compose once for each choice of config files; set values on a copy, by the function Hydra sets them with."""
    values = [override for override in overrides if _sets_a_value(override)]
    choices = tuple(override for override in overrides if override not in values)
    config = pickle.loads(_composed(recipe, choices, folder, recipes.root()))
    ConfigLoaderImpl._apply_overrides_to_config(OverridesParser.create().parse_overrides(values), config)
    return config


def _sets_a_value(override: str) -> bool:
    """Whether it is surely no choice of a config file: `trainer.nnodes=2`, unlike `hardware=cpu`, `a@b.c=d`."""
    key = override.partition("=")[0]
    return "." in key and not {"@", "/"} & {*key}


def write_rows(path: Path | str, rows: int = 4096, **columns: object) -> None:
    """A data file that is good enough for every check before a launch. None leaves a column out."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    row = {
        "data_source": "arithmetic",
        "prompt": [{"role": "user", "content": "1+1="}],
        "reward_model": {"style": "rule", "ground_truth": "2"},
    }
    row = {name: value for name, value in (row | columns).items() if value is not None}
    pq.write_table(pa.Table.from_pylist([row] * rows, None if rows else pa.Table.from_pylist([row]).schema), path)


def stand_in_data(config: DictConfig, folder: Path) -> None:
    """Let the config name small files of its own in `folder` where it names prepared ones."""
    for key in ("data.train_files", "data.val_files"):
        files = OmegaConf.select(config, key)
        stand_ins = [str(folder / Path(file).name) for file in ([files] if isinstance(files, str) else files)]
        for stand_in in stand_ins:
            write_rows(stand_in)
        OmegaConf.update(config, key, stand_ins[0] if isinstance(files, str) else stand_ins)
