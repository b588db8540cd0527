"""The record of a study: of every run what the report needs, in two files small enough to commit.

It only grows: a run whose folder is gone stays, and gives way to one of the same stage, rule and seed alone that has at
least as many steps.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from balanced_agg.atomic_write import atomic_write
from balanced_agg.runs.run import BENCHMARK, Run
from balanced_agg.untrusted import Unreadable, read_json

RUNS, METRICS_FILE = "runs.json", "metrics.parquet"
# Beside validation: what the hypotheses of docs/study.md are about.
METRICS = {
    "actor/entropy",
    "actor/grad_norm",
    "actor/pg_clipfrac",
    "aggregation/clipped_steps",
    "aggregation/length_gap_within_group",
    "aggregation/negative_length",
    "aggregation/step_positive_share_max",
    "aggregation/step_positive_share_min",
    "aggregation/token/drift",
    "aggregation/token/positive_share",
    "aggregation/within_group_length_cv",
    "response_length/clip_ratio",
}
# Of step 1 alone: whether runs of one seed have the same first batch.
FIRST_BATCH = ("response_length/mean", "critic/score/mean")
Key = tuple[str, str, int]  # stage, rule, seed


@dataclass(frozen=True)
class StudyRun:
    """Attributes:
    command, overrides: as it was started, without its folder.
    commit, seconds: None where they are not known.
    finished: whether its process ended well; False also for one that is not known to have.
    steps: the last one that it logged.
    series: metric -> step -> value, in float32; of METRICS, FIRST_BATCH and the validation accuracies.
    """

    stage: str
    rule: str
    seed: int
    order: int
    command: str
    overrides: list[str]
    commit: str | None
    seconds: float | None
    finished: bool
    steps: int
    series: dict[str, dict[int, float]]

    @classmethod
    def of(cls, *key: Any, logged: Run, **facts: Any) -> "StudyRun":
        series: dict[str, dict[int, float]] = {}
        for step, metrics in logged.steps.items():
            for metric, value in metrics.items():
                if metric in METRICS or BENCHMARK.fullmatch(metric) or (step == 1 and metric in FIRST_BATCH):
                    series.setdefault(metric, {})[step] = value
        return cls(*key, **facts, steps=logged.last_step, series=series)

    @property
    def key(self) -> Key:
        return self.stage, self.rule, self.seed

    @property
    def accuracy(self) -> dict[int, float]:
        """step -> validation accuracy; {} before there is one. A recipe of the study has one benchmark."""
        return next((self.series[name] for name in sorted(self.series) if BENCHMARK.fullmatch(name)), {})


@dataclass(frozen=True)
class Record:
    """`plan`: the entries of the plan as it was last; `runs`: what is known of its runs, and of earlier plans'."""

    plan: list[dict[str, Any]]
    runs: dict[Key, StudyRun]

    def merged(self, found: dict[Key, StudyRun]) -> "Record":
        """With the runs found, but for those that are in the record with more steps, or with as many and finished."""
        kept = {
            key: run
            for key, run in self.runs.items()
            if key not in found or (run.steps, run.finished) > (found[key].steps, found[key].finished)
        }
        return Record(self.plan, found | kept)

    def planned(self) -> Iterator[tuple[dict[str, Any], Key]]:
        """Each entry of the plan with the stage, rule and seed of each of its runs."""
        for entry in self.plan:
            for rule in entry["aggregations"]:
                for seed in entry["seeds"]:
                    yield entry, (entry["stage"], rule, seed)

    def complete(self, *orders: int) -> bool:
        """Whether the plan has runs of each of these orders, and all of them have finished."""
        keys = [(entry["order"], key) for entry, key in self.planned() if entry["order"] in orders]
        finished = all(key in self.runs and self.runs[key].finished for _, key in keys)
        return finished and {order for order, _ in keys} == {*orders}

    def of_complete_orders(self) -> "Record":
        """With the runs of complete orders alone, those whose numbers may be looked at."""
        complete = {order for order in {run.order for run in self.runs.values()} if self.complete(order)}
        return Record(self.plan, {key: run for key, run in self.runs.items() if run.order in complete})


def write_record(record: Record, folder: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    runs = [record.runs[key] for key in sorted(record.runs)]
    rows = [
        (run.stage, run.rule, run.seed, step, metric, value)
        for run in runs
        for metric in sorted(run.series)
        for step, value in sorted(run.series[metric].items())
    ]
    names = ("stage", "rule", "seed", "step", "metric", "value")
    kinds = (pa.string(), pa.string(), pa.int32(), pa.int32(), pa.string(), pa.float32())
    columns = zip(*rows, strict=True) if rows else [()] * len(names)
    table = pa.table([pa.array(column, kind) for column, kind in zip(columns, kinds, strict=True)], names)
    facts = [{name: value for name, value in vars(run).items() if name != "series"} for run in runs]
    lines = [
        '{"plan": [',
        ",\n".join(map(json.dumps, record.plan)),
        '], "runs": [',
        ",\n".join(map(json.dumps, facts)),
        "]}",
    ]
    # The metrics first: without its line in RUNS a run counts as not recorded, and is collected again.
    with atomic_write(folder / METRICS_FILE) as temporary:
        pq.write_table(table, temporary, compression="zstd", compression_level=19)
    with atomic_write(folder / RUNS) as temporary:
        temporary.write_text("\n".join(lines) + "\n")


def read_record(folder: Path) -> Record:
    """The record in a folder; an empty one where there is none.

    ValueError: one of its two files is missing, or they are not as :func:`write_record` writes them. Nothing is written
    over those.
    """
    import pyarrow.parquet as pq

    files = folder / RUNS, folder / METRICS_FILE
    if not any(file.exists() for file in files):
        return Record([], {})
    try:
        facts = read_json(files[0])
        series: dict[Key, dict[str, dict[int, float]]] = {}
        columns = pq.read_table(files[1]).to_pydict()
        for *key, step, metric, value in zip(*columns.values(), strict=True):
            series.setdefault(tuple(key), {}).setdefault(metric, {})[step] = value
        runs = [
            StudyRun(**run, series=series.get((run["stage"], run["rule"], run["seed"]), {})) for run in facts["runs"]
        ]
        return Record(facts["plan"], {run.key: run for run in runs})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Unreadable(f"{folder} holds no record of a study that can be read ({error}); restore it") from None
