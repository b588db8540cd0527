"""One run, from whatever the user named: a folder, a log file, a wandb path."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zlib import crc32

from balanced_agg.loss.rules import AGGREGATIONS, EQUAL_MASS, MODE_KEY
from balanced_agg.runs.file_log import Records, is_number, merge, read_records
from balanced_agg.runs.wandb_log import (
    PATH,
    WandbRun,
    join_segments,
    offline_files,
    one_line,
    read_offline,
    read_online,
)
from balanced_agg.untrusted import Unreadable, interpolated, opened, read_yaml, select, shown

ACCEPTED = (
    "a run folder (with metrics.jsonl), a .jsonl file of verl's file logger, a TensorBoard folder, a wandb offline "
    "folder (offline-run-…, or the wandb/ above), or a wandb path (entity/project or entity/project/run_id)"
)
TFRECORD_FRAME = 16  # bytes around a record of TensorBoard's
_SEED = re.compile(r"(?P<stem>.+)-seed(?P<seed>\d+)")
# Lazy, so that the mode is the longest that fits: seq-mean-token-mean ends in token-mean.
_MODE = re.compile(rf"(?:(?P<setting>.+?)-)??(?P<mode>({'|'.join(AGGREGATIONS.values())})(:[-+.\w]+)?(@{EQUAL_MASS})?)")
# verl's metric of a source: its accuracy, or, where the reward function gives none, its reward.
BENCHMARK = re.compile(r"val-core/(?P<source>.+)/(?P<value>acc|reward)/(?P<measure>mean@\d+)")
NAME, RECIPE, COMMIT, TOTAL_STEPS = (
    "trainer.experiment_name",
    "run.recipe",
    "run.commit",
    "trainer.total_training_steps",
)
SEEDS = ("run.seed", "data.seed")
LONGEST_NAME = 300  # characters


@dataclass
class Run:
    """Attributes:
    name, path: what it is called, and where it was read from.
    setting, mode, seed: see :func:`identify`.
    steps: step -> metric -> value, merged (file_log.py).
    config: the config saved with it as nested containers, interpolations as written; None if none can be read.
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
        found = {metric: BENCHMARK.fullmatch(metric) for metric in sorted(metrics, reverse=True)}
        named = {as_name(f"{match['source']} {match['measure']}"): metric for metric, match in found.items() if match}
        return dict(sorted(named.items()))  # where there are acc and reward, acc came last

    @property
    def last_validation(self) -> int | None:
        return max((step for metric in self.benchmarks.values() for step in self.series(metric)), default=None)


def read_runs(paths: Sequence[str], left_out: list[str] | None = None) -> list[Run]:
    """The runs at all paths, in order.

    With a list `left_out`, a run whose files cannot be read is passed over, and why is appended there.

    Raises:
        Unreadable: files that cannot be read, unless they are left out; or those of all the runs.
        ValueError: a path that is none of ``ACCEPTED``, a run without mode or seed, or two runs of one setting, mode
            and seed.
        WandbError: wandb's server could not be asked.
    """
    runs, reasons = [], []
    for path in dict.fromkeys(paths):
        try:
            runs += read_path(path, reasons)
        except Unreadable as error:
            reasons.append(str(error))
    if reasons and (left_out is None or not runs):
        raise Unreadable("; ".join(reasons))
    if left_out is not None:
        left_out += reasons
    seen: dict[tuple[str, str, int], Run] = {}
    for run in runs:
        other = seen.setdefault((run.setting, run.mode, run.seed), run)
        if other is not run:
            raise ValueError(
                f"{other.path} and {run.path} are both seed {run.seed} of {run.mode} in setting {run.setting!r}; "
                "give one of them, or rename one"
            )
    return runs


def read_path(path: str, left_out: list[str]) -> list[Run]:
    """The run at a path; several for a wandb/ folder or a wandb project, of which unreadable ones are `left_out`."""
    place = Path(path)
    log = place / "metrics.jsonl" if (place / "metrics.jsonl").exists() else place
    if log.suffix == ".jsonl" and log.exists():
        name = log.parent.resolve().name if log.stem == "metrics" else log.stem
        records, incomplete = read_records(log)
        notes = [f"{incomplete} incomplete line{'s' if incomplete > 1 else ''} skipped"] if incomplete else []
        return [make_run(path, name, records, config_beside(notes, log.parent), notes)]
    if files := sorted(place.glob("*tfevents*")):
        notes: list[str] = []
        records = read_tensorboard(files, notes)
        return [make_run(path, place.resolve().name, records, config_beside(notes, place, place.parent), notes)]
    if files := offline_files(place):
        found, unreadable = read_all_offline(files)
        if not found:
            raise Unreadable("; ".join(unreadable) or f"{path}: wandb has written nothing yet to {files[0].name}")
        left_out += unreadable
    elif PATH.fullmatch(path) and not Path(place.parts[0]).exists():
        found = read_online(path)
    elif place.exists():
        raise Unreadable(f"{path} is none of: {ACCEPTED}")
    else:
        raise ValueError(f"{path} does not exist; give one of: {ACCEPTED}")
    several = len(found) > 1
    return [
        make_run(f"{path} ({run.name})" if several else path, run.name, run.records, run.config, run.notes, run.commit)
        for run in join_segments(found)
    ]


def read_all_offline(files: Sequence[Path]) -> tuple[list[WandbRun], list[str]]:
    """The runs in these files of wandb's that something has been written to, and why some cannot be read."""
    found, unreadable = [], []
    for file in files:
        try:
            found.append(read_offline(file))
        except Unreadable as error:
            unreadable.append(str(error))
    return [run for run in found if run is not None], unreadable


def read_tensorboard(files: Sequence[Path], notes: list[str]) -> Records:
    """Each scalar of verl's `tensorboard` logger as written, in float32.

    A record that is incomplete or damaged ends its file, and is noted. Files are to be in the order of their names,
    which start with the time they were made at; a resumed run writes a further one.
    """
    # The loader that parses events, too, turns each scalar into a tensor, which takes six times as long.
    from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.util.tensor_util import make_ndarray

    records = []
    for file in files:
        size, why = 0, None
        try:
            opened(file).close()
            for payload in RawEventFileLoader(str(file)).Load():
                size += len(payload) + TFRECORD_FRAME
                event = Event.FromString(payload)
                for value in event.summary.value:
                    if value.WhichOneof("value") == "simple_value":
                        records.append((event.step, {value.tag: value.simple_value}))
                    # A tensor of any size may be written as one number.
                    elif value.metadata.plugin_data.plugin_name == "scalars" and not value.tensor.tensor_shape.dim:
                        records.append((event.step, {value.tag: make_ndarray(value.tensor).item()}))
            if size < file.stat().st_size:
                why = f"its record at byte {size} is incomplete or damaged"
        except Exception as error:  # of TensorBoard, protobuf, numpy or the system, by what is damaged
            why = one_line(error)
        if why:
            notes.append(f"{file} cannot be read to its end ({why}); what stands before it counts")
    return records


def make_run(
    path: str, name: str, records: Records, config: Any, notes: Sequence[str] = (), commit: str | None = None
) -> Run:
    """A run of what was found at `path`; its `config` as nested containers, None or empty without one."""
    try:
        setting, mode, seed = identify(name, config)
    except ValueError as error:
        raise Unreadable("; ".join([f"{path}: {error}", *notes])) from None
    total = select(config, TOTAL_STEPS)
    commit = select(config, COMMIT) or commit
    unresolved = interpolated(config, NAME, MODE_KEY, *SEEDS, RECIPE, COMMIT, TOTAL_STEPS)
    return Run(
        name=as_name(select(config, NAME) or name),
        path=path,
        setting=setting,
        mode=mode,
        seed=seed,
        steps=merge(records),
        config=config or None,
        commit=None if commit is None else as_name(commit),
        total_steps=int(total) if is_number(total) else None,
        notes=[
            *notes,
            *(f"{key}={value} of its config is no key of that config, and does not count" for key, value in unresolved),
        ],
    )


def config_beside(notes: list[str], *folders: Path) -> dict[Any, Any] | None:
    """The config that Hydra saved in the first of the folders that has one, or None; one that is damaged is noted."""
    for file in (folder / ".hydra/config.yaml" for folder in folders):
        if file.exists():
            try:
                config = read_yaml(file)
                if isinstance(config, dict) and config:
                    return config
                why = f"{file} holds no config"
            except Unreadable as error:
                why = str(error)
            notes.append(f"{why}; the run's name counts instead")
    return None


def identify(name: str, config: Any = None) -> tuple[str, str, int]:
    """Setting, mode and seed of a run, from its config where that has them, else from its name.

    The setting is everything that runs to be compared have in common (in this project: the recipe), the mode is verl's
    ``actor_rollout_ref.actor.loss_agg_mode``.

    config: ``run.recipe``, ``actor_rollout_ref.actor.loss_agg_mode`` and ``run.seed`` (else ``data.seed``), by
    untrusted.select. The name in a config is ``trainer.experiment_name``.

    name: ``SETTING-MODE-seed<k>``. Where no known mode stands before ``-seed<k>``, all of it is taken for the mode, so
    that runs of own names stand side by side, in the setting "".

    Args:
        name: the run's, used where the config has no ``trainer.experiment_name``.
        config: nested containers, or None.

    Raises:
        ValueError: neither tells mode and seed, or the seed is no whole number.
    """
    name = as_name(select(config, NAME) or name)
    named = _SEED.fullmatch(name)
    stem = named["stem"] if named else name
    in_stem = _MODE.fullmatch(stem)

    mode = select(config, MODE_KEY)
    seeds = (*(select(config, key) for key in SEEDS), named and named["seed"])
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
    try:
        seed = int(seed)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{name}: its seed is {seed!r:.80}, which is no whole number") from None
    return as_name(select(config, RECIPE) or setting), as_name(mode), seed


def as_name(text: Any) -> str:
    """What can be shown in a table and a picture. A checksum stands in place of the end of a long one."""
    name = shown(text)
    return name if len(name) <= LONGEST_NAME else f"{name[:LONGEST_NAME]}…{crc32(name.encode()):08x}"
