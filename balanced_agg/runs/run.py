"""One run, from whatever the user named: a folder, a log file, a wandb path."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from balanced_agg.loss.names import AGGREGATION_OF, MODE_KEY
from balanced_agg.runs.file_log import Records, merge, read_records
from balanced_agg.runs.wandb_log import PATH, join_segments, offline_files, read_offline, read_online

ACCEPTED = (
    "a run folder (with metrics.jsonl), a .jsonl file of verl's file logger, a TensorBoard folder, a wandb offline "
    "folder (offline-run-…, or the wandb/ above), or a wandb path (entity/project or entity/project/run_id)"
)
_SEED = re.compile(r"(?P<stem>.+)-seed(?P<seed>\d+)")
# Lazy, so that the mode is the longest that fits: seq-mean-token-mean ends in token-mean.
_MODE = re.compile(rf"(?:(?P<setting>.+?)-)??(?P<mode>{'|'.join(AGGREGATION_OF)})")
BENCHMARK = re.compile(r"val-core/(?P<source>.+)/acc/(?P<measure>mean@\d+)")


@dataclass
class Run:
    """Attributes:
    name, path: what it is called, and where it was read from.
    setting, mode, seed: see :func:`identify`.
    steps: step -> metric -> value, merged (file_log.py).
    config: the config saved with it as nested containers, interpolations as written; None if there is none.
    commit: of the code it ran, where the config or wandb has it.
    total_steps: trainer.total_training_steps of its config, or None.
    notes: what was odd about its log.
    """

    name: str
    path: str
    setting: str
    mode: str
    seed: int
    steps: dict[int, dict[str, float]]
    config: dict[str, Any] | None = None
    commit: str | None = None
    total_steps: int | None = None
    notes: list[str] = field(default_factory=list)

    def series(self, metric: str | None) -> dict[int, float]:
        """step -> value of a metric, at the steps that logged it."""
        return {step: metrics[metric] for step, metrics in self.steps.items() if metric in metrics}

    @property
    def last_step(self) -> int:
        return max(self.steps, default=0)

    @property
    def benchmarks(self) -> dict[str, str]:
        """Name of each benchmark it was validated on -> metric; a benchmark is a source and its mean@k."""
        metrics = {metric for logged in self.steps.values() for metric in logged}
        found = {metric: BENCHMARK.fullmatch(metric) for metric in sorted(metrics)}
        return {f"{match['source']} {match['measure']}": metric for metric, match in found.items() if match}

    @property
    def last_validation(self) -> int | None:
        return max((step for metric in self.benchmarks.values() for step in self.series(metric)), default=None)


def read_runs(paths: Sequence[str]) -> list[Run]:
    """The runs at all paths, in order.

    Raises:
        ValueError: a path that is none of ``ACCEPTED``, a log that cannot be read, a run without mode or seed, or two
            runs of one setting, mode and seed.
        WandbError: wandb's server could not be asked.
    """
    runs = [run for path in dict.fromkeys(paths) for run in read_path(path)]
    seen: dict[tuple[str, str, int], Run] = {}
    for run in runs:
        other = seen.setdefault((run.setting, run.mode, run.seed), run)
        if other is not run:
            raise ValueError(
                f"{other.path} and {run.path} are both seed {run.seed} of {run.mode} in setting {run.setting!r}; "
                "give one of them, or rename one"
            )
    return runs


def read_path(path: str) -> list[Run]:
    """The run at a path; several for a wandb/ folder or a wandb project."""
    place = Path(path)
    log = place / "metrics.jsonl" if (place / "metrics.jsonl").is_file() else place
    if log.is_file() and log.suffix == ".jsonl":
        name = log.parent.resolve().name if log.stem == "metrics" else log.stem
        records, incomplete = read_records(log)
        notes = [f"{incomplete} incomplete line{'s' if incomplete > 1 else ''} skipped"] if incomplete else []
        return [make_run(path, name, records, config_beside(log.parent), notes)]
    if files := list(place.glob("*tfevents*")):
        config = config_beside(place) or config_beside(place.parent)
        return [make_run(path, place.resolve().name, read_tensorboard(files), config)]
    if files := offline_files(place):
        found = [run for run in map(read_offline, files) if run is not None]
        if not found:
            raise ValueError(f"{path}: wandb has written nothing yet to {files[0].name}")
    elif PATH.fullmatch(path) and not Path(place.parts[0]).exists():
        found = read_online(path)
    else:
        raise ValueError(f"{path} {'is none of' if place.exists() else 'does not exist; give one of'}: {ACCEPTED}")
    several = len(found) > 1
    return [
        make_run(f"{path} ({run.name})" if several else path, run.name, run.records, run.config, run.notes, run.commit)
        for run in join_segments(found)
    ]


def read_tensorboard(files: list[Path]) -> Records:
    """Each scalar of verl's `tensorboard` logger as written, in float32; an incomplete record ends its file.

    Files count in the order of their names, which start with the time they were made at; a resumed run writes a further
    one.
    """
    # This loader takes events as they are; the other turns each scalar into a tensor, which takes six times as long.
    from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader
    from tensorboard.util.tensor_util import make_ndarray

    records = []
    for event in (event for file in sorted(files) for event in LegacyEventFileLoader(str(file)).Load()):
        for value in event.summary.value:
            if value.WhichOneof("value") == "simple_value":
                records.append((event.step, {value.tag: value.simple_value}))
            elif value.metadata.plugin_data.plugin_name == "scalars":
                records.append((event.step, {value.tag: make_ndarray(value.tensor).item()}))
    return records


def make_run(
    path: str, name: str, records: Records, config: Any, notes: Sequence[str] = (), commit: str | None = None
) -> Run:
    """A run of what was found at `path`; `config` is an OmegaConf config or a dictionary, None or empty without one."""
    from omegaconf import OmegaConf

    config = OmegaConf.create(config) if config else None
    try:
        setting, mode, seed = identify(name, config)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    total = select(config, "trainer.total_training_steps")
    return Run(
        name=str(select(config, "trainer.experiment_name") or name),
        path=path,
        setting=setting,
        mode=mode,
        seed=seed,
        steps=merge(records),
        config=None if config is None else OmegaConf.to_container(config, resolve=False),
        commit=select(config, "run.commit") or commit,
        total_steps=None if total is None else int(total),
        notes=list(notes),
    )


def config_beside(folder: Path) -> Any:
    """The config that Hydra saved in `folder`, or None."""
    from omegaconf import OmegaConf

    file = folder / ".hydra/config.yaml"
    return OmegaConf.load(file) if file.is_file() else None


def identify(name: str, config: Any = None) -> tuple[str, str, int]:
    """Setting, mode and seed of a run, from its config where that has them, else from its name.

    The setting is everything that runs to be compared have in common (in this project: the recipe), the mode is verl's
    ``actor_rollout_ref.actor.loss_agg_mode``.

    config: ``run.recipe``, ``actor_rollout_ref.actor.loss_agg_mode`` and ``run.seed`` (else ``data.seed``). Only these
    are resolved, so interpolations elsewhere may point to what does not exist here. The name in a config is
    ``trainer.experiment_name``.

    name: ``SETTING-MODE-seed<k>``. Where no known mode stands before ``-seed<k>``, all of it is taken for the mode, so
    that runs of own names stand side by side, in the setting "".

    Args:
        name: the run's, used where the config has no ``trainer.experiment_name``.
        config: an OmegaConf config, or None.

    Raises:
        ValueError: neither tells mode and seed.
    """
    name = str(select(config, "trainer.experiment_name") or name)
    named = _SEED.fullmatch(name)
    stem = named["stem"] if named else name
    in_stem = _MODE.fullmatch(stem)

    mode = select(config, MODE_KEY)
    seeds = (select(config, "run.seed"), select(config, "data.seed"), named and named["seed"])
    seed = next((seed for seed in seeds if seed is not None), None)
    if seed is None or (mode is None and named is None):
        raise ValueError(
            f"{name}: cannot tell its {'seed' if seed is None else 'mode'}; rename it to SETTING-MODE-seed<k>, such as "
            f"{stem}{'' if in_stem else '-balanced'}-seed1, or keep the run's .hydra/config.yaml beside its log"
        )
    if mode is None:
        mode, setting = (in_stem["mode"], in_stem["setting"] or "") if in_stem else (stem, "")
    else:
        setting = (in_stem["setting"] or "") if in_stem else stem
    return str(select(config, "run.recipe") or setting), str(mode), int(seed)


def select(config: Any, key: str) -> Any:
    """The value at a dotted key with its own interpolations resolved; None if it is missing or cannot be resolved."""
    from omegaconf import OmegaConf

    return None if config is None else OmegaConf.select(config, key, throw_on_resolution_failure=False)
