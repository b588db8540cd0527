"""What is to be evaluated: which weights, under which recipe, and where the results go."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from balanced_agg.commands.evaluate.merge import SHARDS
from balanced_agg.commands.evaluate.recorded import recorded_run
from balanced_agg.commands.recipes import check_recipe_name, compose_recipe, recipe_names, root

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass
class Target:
    """Attributes:
    name: what the user gave.
    shards: folder of FSDP shards that must be merged first, or None.
    model: model directory or hub id; for shards, where they are merged to.
    results: folder of the results, beside the checkpoint or model directory.
    recipe: the recipe whose validation is run.
    overrides: Hydra overrides that the checkpoint's own run was made with.
    """

    name: str
    shards: Path | None
    model: str
    results: Path
    recipe: str
    overrides: list[str] = field(default_factory=list)


def resolve_target(name: str, recipe: str | None = None, trusted: bool = False) -> Target:
    """A checkpoint (`…/global_step_N`, or its `actor` folder), a model directory or a hub id.

    The recipe is the given one; else that of the run whose folder the checkpoint lies in, with its overrides; else the
    first whose model it is.

    ValueError if `name` is none of the three, if no recipe can be found for it, or if the run's overrides may run code
    and it is not `trusted`.
    """
    path = Path(name).expanduser()
    overrides: list[str] = []
    shards = next((folder for folder in (path, path / "actor") if any(folder.glob(SHARDS))), None)
    if shards:
        checkpoint = shards.parent if shards.name == "actor" else shards
        # Beside, not inside: verl deletes the folders of old checkpoints.
        results = checkpoint.resolve().with_name(f"{checkpoint.resolve().name}-evaluation")
        model = str(results / "model")
        if recipe is None:
            recipe, overrides = recorded_run(shards.resolve(), trusted)
    elif (path / "config.json").is_file():
        model = str(path.resolve())
        results = path.resolve().with_name(f"{path.resolve().name}-evaluation")
    elif HUB_ID.fullmatch(name) and not path.exists():
        model = name
        results = root() / "outputs" / f"{name.replace('/', '_')}-evaluation"
    else:
        raise ValueError(
            f"{name} is neither a verl checkpoint (a folder with {SHARDS}, or with actor/ that has them), nor a model "
            "directory (with config.json), nor a hub id (OWNER/NAME)"
        )
    if recipe is None:
        trained = ((known, compose_recipe(known).actor_rollout_ref.model.path) for known in recipe_names())
        recipe = next((known for known, path in trained if path == model), None)
    if recipe is None:
        raise ValueError(f"no recipe trains {name}; say whose validation to run, --recipe {'|'.join(recipe_names())}")
    check_recipe_name(recipe)
    return Target(name, shards, model, results, recipe, overrides)


def last_of_each_key(overrides: Iterable[str]) -> list[str]:
    """The overrides without those that a later one repeats; Hydra takes a config group only once."""
    return list({override.partition("=")[0]: override for override in overrides}.values())
