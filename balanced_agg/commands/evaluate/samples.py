"""verl's dump of a validation, as one list of samples for each problem of each benchmark."""

import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from balanced_agg.runs import verl_keys


@dataclass
class Benchmark:
    """The samples of one data source, in one list for each problem.

    `accuracy` has k entries for each problem, 0 or 1; the others one for each response that came.
    """

    name: str
    responses: int  # k: asked for each problem
    accuracy: list[list[float]] = field(default_factory=list)
    tokens: list[list[float]] = field(default_factory=list)
    truncated: list[list[float]] = field(default_factory=list)
    grader_failed: list[list[float]] = field(default_factory=list)

    @property
    def missing(self) -> int:
        """Responses that were asked for and never came; they count as wrong."""
        return sum(map(len, self.accuracy)) - sum(map(len, self.tokens))


def asked(files: Iterable[Path], default_responses: int) -> dict[str, list[int]]:
    """Responses asked of each problem, by data source: the column ``__rollout_n__``, or the default without one."""
    import pyarrow.parquet as pq

    rollouts = defaultdict(list)
    for file in files:
        has_column = "__rollout_n__" in pq.read_schema(file).names
        table = pq.read_table(file, columns=["data_source"] + ["__rollout_n__"] * has_column).to_pydict()
        counts = table.get("__rollout_n__", [default_responses] * len(table["data_source"]))
        for source, count in zip(table["data_source"], counts, strict=True):
            rollouts[source].append(int(count))
    return dict(rollouts)


def read_samples(dump: Path, rollouts: dict[str, list[int]], complete: bool = True) -> list[Benchmark]:
    """The benchmarks of one dump, in the order of `rollouts` (see :func:`asked`).

    Responses that failed in the rollout are absent from the dump. They count as wrong, as in verl's own metric, and are
    in no length. With `complete` False only a part of the files was asked: problems without a response are left out.

    ValueError if problems of one data source were asked for different numbers of responses (mean@k has no k then), or
    if the dump holds a data source or more problems than were asked.
    """
    by_problem: dict[str, dict[str, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for line in dump.read_text().splitlines():
        sample = json.loads(line)
        by_problem[sample["data_source"]][verl_keys.parse(sample["uid"]).group].append(sample)
    if unknown := by_problem.keys() - rollouts.keys():
        raise ValueError(f"{dump}: samples of {sorted(unknown)}, which were not asked for")

    benchmarks = []
    for name, counts in rollouts.items():
        if len(set(counts)) > 1:
            raise ValueError(
                f"{name}: its problems ask for {sorted(set(counts))} responses; give all of them one __rollout_n__"
            )
        problems = list(by_problem[name].values())
        if len(problems) > len(counts):
            raise ValueError(f"{dump}: {len(problems)} problems of {name}, but {len(counts)} were asked")
        benchmark = Benchmark(name, responses=counts[0])
        for samples in problems + [[]] * (len(counts) - len(problems) if complete else 0):
            absent = benchmark.responses - len(samples)
            benchmark.accuracy.append([float(sample["acc"]) for sample in samples] + [0.0] * absent)
            benchmark.tokens.append([sample["response_tokens"] for sample in samples])
            benchmark.truncated.append([sample["truncated"] for sample in samples])
            benchmark.grader_failed.append([sample["grader_failed"] for sample in samples])
        benchmarks.append(benchmark)
    return benchmarks
