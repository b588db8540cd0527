"""What Hydra recorded of the run that a checkpoint belongs to: its recipe, and those of its overrides that fit here.

The checkpoint may be somebody else's. Without the user's word its overrides set numbers, choose among our own config
files and name local data files. What else they may do, such as naming a module, a class, an environment variable or a
program that runs without its sandbox, is code of a stranger.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from balanced_agg.commands.overrides import value_of
from balanced_agg.untrusted import Unreadable, read_yaml, select

# Of the overrides a run was trained with, those that would undo the evaluation or mean nothing in it.
TRAINING_ONLY = re.compile(
    r"\+|~|run\.|hydra|skip\.|algorithm\.|data\.train|data\.val_max_samples|data\.filter_overlong_prompts"
    r"|actor_rollout_ref\.actor\.|actor_rollout_ref\.model\.path|reward\.reward_manager"
    r"|trainer\.(?!n_gpus_per_node|nnodes|device)"
)
# A number is harmless under any key but these, where it lifts a restriction.
SWITCHES = re.compile(r"trust_remote_code|allow_|env_vars|engine_kwargs")
# Keys whose value may be a word; the first five choose a config file of ours.
WORDS = re.compile(
    r"hardware|aggregation|model|train_data|cluster|(arithmetic|search)\.regime|trainer\.device|data\.(prompt_key|truncation)"
    r"|actor_rollout_ref\.rollout\.(name|mode|dtype|checkpoint_engine\.backend)"
)
WORD = re.compile(r"[\w-][\w.-]*")
PATHS = re.compile(r"data\.val_files|(arithmetic|search)\.dir|reward\.graders\.tests_folders")
PATH = re.compile(r"(?:[^:$]|\$\{[\w.]+\})*")  # verl's readers of hdfs:// and the like run commands
SHOWN = 120  # characters of an override


def recorded_run(folder: Path, trusted: bool = False) -> tuple[str | None, list[str]]:
    """Recipe and overrides of the run that `folder` belongs to, as Hydra recorded them; (None, []) if there is none.

    Args:
        trusted: take over, too, what may run code.

    ValueError for a record that is damaged, and, unless it is `trusted`, for one with overrides that may run code.
    """
    hydra = next((parent / ".hydra" for parent in folder.parents if (parent / ".hydra/hydra.yaml").exists()), None)
    if hydra is None:
        return None, []
    try:
        recipe = select(read_yaml(hydra / "hydra.yaml"), "hydra.job.config_name")
        made_with = read_yaml(hydra / "overrides.yaml")
        if not isinstance(made_with, list):
            raise Unreadable(f"{hydra / 'overrides.yaml'} cannot be read: it holds no list")
    except Unreadable as error:
        raise ValueError(f"{error}; say whose validation to run, --recipe RECIPE") from None
    overrides = [override for override in map(str, made_with) if not TRAINING_ONLY.match(override)]
    code = [] if trusted else [override[:SHOWN] for override in overrides if may_run_code(override)]
    if code:
        raise ValueError(
            f"{hydra / 'overrides.yaml'} sets what may run code or read beyond the run: {'; '.join(code)}. If you "
            "trust it, add --trust-code; or give --recipe and overrides of your own"
        )
    return None if recipe is None else str(recipe)[:SHOWN], overrides


def may_run_code(override: str) -> bool:
    """Whether an override does more than set numbers, choose a config file of ours, or name a local data file."""
    key = override.partition("=")[0]
    if not re.fullmatch(r"[\w.]+", key):
        return True
    try:
        values = list(leaves(key, value_of(override)))
    except (ValueError, RecursionError):
        return True
    return not all(harmless(key, value) for key, value in values)


def leaves(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Dotted key and value of each leaf of an override's value; the elements of a list have the list's key."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from leaves(f"{key}.{name}", inner)
    elif isinstance(value, list):
        for inner in value:
            yield from leaves(key, inner)
    else:
        yield key, value


def harmless(key: str, value: Any) -> bool:
    if SWITCHES.search(key):
        return False
    if value is None or isinstance(value, bool | int | float):
        return True
    text = str(getattr(value, "text", value))  # of a quoted string
    pattern = WORD if WORDS.fullmatch(key) else PATH if PATHS.fullmatch(key) else None
    return pattern is not None and pattern.fullmatch(text) is not None
