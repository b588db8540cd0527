"""verl's dump of a validation, as the results of each problem of each benchmark."""

import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from balanced_agg.plugin.guard.scores import REASON
from balanced_agg.runs import verl_keys


@dataclass
class Benchmark:
    """The results of one data source; each array has an entry for each problem.

    Attributes:
        k: responses asked for each problem. Those that never came count as wrong, and are in nothing else.
        right: responses that are right.
        came: responses that came and have a score.
        defaulted: those that came and have the guard's fallback score. They count as wrong, and are in nothing else.
        tokens, truncated, grader_failed: sums over the responses that came and have a score.
    """

    name: str
    k: int
    right: np.ndarray
    came: np.ndarray
    defaulted: np.ndarray
    tokens: np.ndarray
    truncated: np.ndarray
    grader_failed: np.ndarray


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

    Responses that failed in the rollout are absent from the dump, and wrong in verl's own metric too. With `complete`
    False only a part of the files was asked: problems without a response are left out.

    ValueError if problems of one data source were asked for different numbers of responses (mean@k has no k then), or
    if the dump holds a data source or more problems than were asked.
    """
    by_problem: dict[str, dict[str, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    with dump.open(encoding="utf-8") as lines:  # not splitlines, which breaks texts at U+2028, too
        for sample in map(json.loads, lines):
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
        if complete:
            problems += [[]] * (len(counts) - len(problems))
        scored = [[sample for sample in samples if sample.get(REASON) is None] for samples in problems]
        came = np.array(list(map(len, scored)), dtype=float)
        defaulted = np.array(list(map(len, problems)), dtype=float) - came
        right, *others = (
            np.array([sum(sample[field] for sample in samples) for samples in scored], dtype=float)
            for field in ("acc", "response_tokens", "truncated", "grader_failed")
        )
        benchmarks.append(Benchmark(name, counts[0], right, came, defaulted, *others))
    return benchmarks
