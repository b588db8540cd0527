"""verl's dump of a validation, as the results of each problem of each benchmark."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from balanced_agg.plugin.guard.scores import REASON
from balanced_agg.runs import verl_keys
from balanced_agg.runs.file_log import is_number, parse
from balanced_agg.untrusted import TOO_LARGE, bounded_memory, opened

FIELDS = ("acc", "response_tokens", "truncated", "grader_failed")


@dataclass
class Benchmark:
    """The results of one data source; each array has an entry for each problem.

    Attributes:
        k: responses asked for each problem. Those that never came count as wrong, and are in nothing else.
        right: responses that are right; of a reward function that gives no acc, the sum of its scores.
        came: responses that came and have a score.
        defaulted: those that came and have the guard's fallback score. They count as wrong, and are in nothing else.
        tokens, truncated, grader_failed: sums over the responses that came and have a score.
    binary: whether each score is 0 or 1, so that a response is right or wrong.
    """

    name: str
    k: int
    right: np.ndarray
    came: np.ndarray
    defaulted: np.ndarray
    tokens: np.ndarray
    truncated: np.ndarray
    grader_failed: np.ndarray
    binary: bool = True


def asked(files: Iterable[Path], default_responses: int) -> dict[str, list[int]]:
    """Responses asked of each problem, by data source: the column ``__rollout_n__``, or the default without one.

    ValueError for a file that is no complete parquet file, or lacks a data source or a number of responses above 0; for
    one that takes far more memory than its size explains.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    rollouts = defaultdict(list)
    for file in files:
        try:
            with bounded_memory([file]), pq.ParquetFile(file) as parquet:
                if parquet.metadata.num_rows > file.stat().st_size:
                    raise MemoryError
                has_column = "__rollout_n__" in parquet.schema_arrow.names
                table = parquet.read(columns=["data_source"] + ["__rollout_n__"] * has_column).to_pydict()
        except MemoryError:
            raise ValueError(f"{file}, whose problems were asked, cannot be read: {TOO_LARGE}") from None
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            why = " ".join(str(error).split())
            raise ValueError(f"{file}, whose problems were asked, is no complete parquet file: {why}") from None
        sources = table.get("data_source", [None])
        counts = table.get("__rollout_n__", [default_responses] * len(sources))
        for row, (source, count) in enumerate(zip(sources, counts, strict=True)):
            if not isinstance(source, str) or not isinstance(count, int) or count < 1:
                raise ValueError(f"{file}, row {row} (from 0): data_source={source!r}, {count!r} responses asked")
            rollouts[source].append(count)
    return dict(rollouts)


def read_dump(dump: Path) -> Iterator[dict[str, Any]]:
    """The samples of a dump, with verl's score of a reward function that gives no acc as their acc.

    ValueError for a line that is no sample. What it would have been is not known, so that no table can be made.
    """
    with opened(dump) as lines:  # not splitlines, which breaks texts at U+2028, too
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            sample = parse(line)
            if not isinstance(sample, dict) or verl_keys.parse(str(sample.get("uid"))) is None:
                raise ValueError(f"{dump}, line {number} is no sample of verl's: it is incomplete, or has no uid")
            if sample.get("acc") is None:
                sample["acc"] = sample.get("score")
            sample.setdefault("grader_failed", 0.0)  # which the guard adds
            for name, value in ((name, sample.get(name)) for name in FIELDS if sample.get(REASON) is None):
                if not (is_number(value) or isinstance(value, bool)):
                    raise ValueError(f"{dump}, line {number}: {name} is {value!r:.80}, which is no number")
            yield sample


def read_samples(dump: Path, rollouts: dict[str, list[int]], complete: bool = True) -> list[Benchmark]:
    """The benchmarks of one dump, in the order of `rollouts` (see :func:`asked`).

    Responses that failed in the rollout are absent from the dump, and wrong in verl's own metric too. With `complete`
    False only a part of the files was asked: problems without a response are left out.

    ValueError if problems of one data source were asked for different numbers of responses (mean@k has no k then), or
    if the dump holds a data source or more problems than were asked, or what is no sample.
    """
    # Source, problem and response -> sample: of a response that is several rows the last, which was graded.
    by_problem: dict[str, dict[str, dict[str, dict[str, Any]]]] = defaultdict(lambda: defaultdict(dict))
    for sample in read_dump(dump):
        key = verl_keys.parse(sample["uid"])
        responses = by_problem[str(sample.get("data_source"))][key.group]
        before = responses.get(key.session)
        if before is None or verl_keys.parse(before["uid"]).output < key.output:
            responses[key.session] = sample
    if unknown := by_problem.keys() - rollouts.keys():
        raise ValueError(f"{dump}: samples of {sorted(unknown)}, which were not asked for")

    benchmarks = []
    for name, counts in rollouts.items():
        if len(set(counts)) > 1:
            raise ValueError(
                f"{name}: its problems ask for {sorted(set(counts))} responses; give all of them one __rollout_n__"
            )
        problems = [list(responses.values()) for responses in by_problem[name].values()]
        if len(problems) > len(counts):
            raise ValueError(f"{dump}: {len(problems)} problems of {name}, but {len(counts)} were asked")
        if complete:
            problems += [[]] * (len(counts) - len(problems))
        scored = [[sample for sample in samples if sample.get(REASON) is None] for samples in problems]
        came = np.array(list(map(len, scored)), dtype=float)
        defaulted = np.array(list(map(len, problems)), dtype=float) - came
        right, *others = (
            np.array([sum(sample[field] for sample in samples) for samples in scored], dtype=float) for field in FIELDS
        )
        binary = all(sample["acc"] in (0, 1) for samples in scored for sample in samples)
        benchmarks.append(Benchmark(name, counts[0], right, came, defaulted, *others, binary=binary))
    return benchmarks
