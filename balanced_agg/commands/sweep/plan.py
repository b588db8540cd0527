"""The runs of a sweep: the folder, the command and the state of each."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from omegaconf import OmegaConf

from balanced_agg.atomic_write import atomic_write
from balanced_agg.commands.recipes import CONFIGS, check_recipe_name

# In the folder of every run that a sweep has started: its overrides, and whether it has finished.
RECORD = "sweep.json"
# Keys that a sweep sets for each run.
OWN_KEYS = ("aggregation", "run.seed", "run.dir", "run.name", "actor_rollout_ref.actor.loss_agg_mode")
# One value of these for all runs would put their metrics on top of each other.
PER_RUN_VARIABLES = ("VERL_FILE_LOGGER_PATH", "WANDB_RUN_ID", "WANDB_NAME")


@dataclass(frozen=True)
class PlannedRun:
    """One run of a sweep."""

    recipe: str
    aggregation: str  # name of a file of configs/aggregation
    seed: int
    overrides: tuple[str, ...]
    folder: Path

    @property
    def arguments(self) -> list[str]:
        """Of `balanced-agg train`."""
        own = [f"aggregation={self.aggregation}", f"run.seed={self.seed}", f"run.dir={self.folder}"]
        return [self.recipe, *own, *self.overrides]

    @property
    def metrics(self) -> Path:
        return self.folder / "metrics.jsonl"

    @property
    def state(self) -> str:
        """`finished`, `started` (it resumes from its last checkpoint, if it has one) or `new`."""
        if self._record().get("finished"):
            return "finished"
        return "started" if self.metrics.exists() else "new"

    def _record(self) -> dict:
        path = self.folder / RECORD
        return json.loads(path.read_text()) if path.exists() else {}

    def record(self, finished: bool) -> None:
        with atomic_write(self.folder / RECORD) as unfinished:
            unfinished.write_text(json.dumps({"overrides": self.overrides, "finished": finished}) + "\n")

    def check(self) -> None:
        """ValueError if the folder holds a run that was started with other overrides."""
        before = self._record().get("overrides")
        if before is not None and before != list(self.overrides):
            raise ValueError(
                f"{self.folder} was started with the overrides {' '.join(before) or '(none)'}, not "
                f"{' '.join(self.overrides) or '(none)'}; give the same, or --dir another folder, or move it away"
            )


def plan_runs(
    recipe: str,
    aggregations: Sequence[str],
    seeds: Sequence[int],
    overrides: Sequence[str],
    folder: Path,
) -> list[PlannedRun]:
    """All aggregations under the first seed, then all under the second, so that an interrupted sweep can be compared.

    The folder of a run has the name that `balanced-agg train` would give it: ``RECIPE-MODE-seedK``.

    ValueError: unknown recipe or aggregation, one named twice, an override or an exported variable that a sweep must
    set for each run by itself, or a folder that holds a run started with other overrides.
    """
    check_recipe_name(recipe)
    choices = sorted(path.stem for path in (CONFIGS / "aggregation").glob("*.yaml"))
    if unknown := [name for name in aggregations if name not in choices]:
        raise ValueError(f"--aggregations {' '.join(unknown)}: there are {', '.join(choices)}")
    for option, values in (("--aggregations", aggregations), ("--seeds", seeds)):
        if len(set(values)) < len(values):
            raise ValueError(f"{option} {' '.join(map(str, values))}: name each of them once")
    for override in overrides:
        if override.lstrip("+~").partition("=")[0] in OWN_KEYS:
            raise ValueError(f"{override}: a sweep sets this for each run; use --aggregations, --seeds and --dir")
    for variable in PER_RUN_VARIABLES:
        if os.environ.get(variable):
            raise ValueError(f"{variable} is exported and would be shared by all runs; unset it")

    modes = {
        name: OmegaConf.load(CONFIGS / f"aggregation/{name}.yaml").actor_rollout_ref.actor.loss_agg_mode
        for name in aggregations
    }
    runs = [
        PlannedRun(recipe, name, seed, tuple(overrides), folder / f"{recipe}-{mode}-seed{seed}")
        for seed in seeds
        for name, mode in modes.items()
    ]
    for run in runs:
        run.check()
    return runs
