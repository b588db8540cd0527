"""Rollouts on disk as a stream of rows: verl's dump (STEP.jsonl), other JSON lines, parquet.

Files are read in parts, and a part a batch of rows at a time. Which steps a part can hold is known before it is read,
so that a step is finished as soon as no later part can add to it.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# An int, or the path of a file that says no step.
Step = int | str

ROWS = 256
SUFFIXES = (".jsonl", ".parquet")


@dataclass(frozen=True)
class Part:
    """A JSONL file, or one row group of a parquet file.

    Attributes:
        step: that of all its rows, told by the file's name; None if each row says its own.
        steps: those its rows can belong to; None if only reading it tells.
        size: bytes; of all parts together, the files' sizes.
        first_row: number of its first row in the file, from 1.
    """

    path: Path
    step: Step | None
    steps: frozenset[Step] | None
    size: int
    row_group: int | None = None
    first_row: int = 1


@dataclass(frozen=True)
class Batch:
    """Up to ROWS rows of one part: their numbers in the file (from 1), and the fields that were asked for.

    `size` is the part of the file that was read for them, in bytes.
    """

    path: Path
    numbers: list[int]
    rows: list[dict[str, Any]]
    size: int


@dataclass
class LeftOut:
    """Rows that could not be used: how many for each reason, and where the first of them stands (FILE:ROW)."""

    counts: dict[str, int] = field(default_factory=dict)
    first: dict[str, str] = field(default_factory=dict)

    def add(self, reason: str, path: Path, number: int) -> None:
        self.counts[reason] = self.counts.get(reason, 0) + 1
        self.first.setdefault(reason, f"{path}:{number}")


def find_files(rollouts: Iterable[Path]) -> list[Path]:
    """Find the files that are given, and those in the folders that are given; each once.

    ValueError for what does not exist, a folder without rollouts, or a file of another kind.
    """
    files: dict[Path, Path] = {}
    for given in rollouts:
        if given.is_dir():
            found = sorted(path for path in given.iterdir() if path.suffix in SUFFIXES and path.is_file())
            if not found:
                raise ValueError(f"{given} has no .jsonl and no .parquet file; give verl's trainer.rollout_data_dir")
        elif not given.is_file():
            raise ValueError(f"{given} does not exist; give rollout files or verl's trainer.rollout_data_dir")
        elif given.suffix not in SUFFIXES:
            raise ValueError(f"{given} is neither .jsonl nor .parquet; give rollout files or a folder of them")
        else:
            found = [given]
        files |= {path.resolve(): path for path in found}
    return list(files.values())


def columns_of(files: Iterable[Path]) -> frozenset[str]:
    """Columns that every file has (of JSON lines, the first readable one counts); files without a row have no say."""
    names = [found for path in files if (found := _columns(path))]
    return frozenset.intersection(*names) if names else frozenset()


def find_parts(files: Iterable[Path]) -> list[Part]:
    """All parts, in the order in which they are to be read."""
    parts = [part for path in files for part in _parts(path)]
    # What can hold any step comes first: until it is read, no step is finished.
    return sorted(parts, key=lambda part: (part.steps is not None, min(map(step_order, part.steps or [0]))))


def read(part: Part, fields: Iterable[str], left_out: LeftOut) -> Iterator[Batch]:
    """Yield the rows of a part, each with the given fields and its ``step``; a field that it lacks is None.

    ValueError if a file called STEP.jsonl has a row of another step.
    """
    fields = {*fields, "step"}
    in_parquet = part.row_group is not None
    batches = _read_parquet(part, fields) if in_parquet else _read_json_lines(part, fields, left_out)
    for batch in batches:
        for row, number in zip(batch.rows, batch.numbers, strict=True):
            row["step"] = _whole_number(row["step"])
            if part.step is not None and row["step"] not in (None, part.step):
                raise ValueError(
                    f"{part.path}:{number} is of step {row['step']}, but its file is taken for step {part.step}; "
                    "give such a file a name that is no number, and every row its step"
                )
            row["step"] = row["step"] if part.step is None else part.step
        yield batch


def step_order(step: Step) -> tuple[bool, Step]:
    """Sorting key: numbers in order, then files."""
    return (isinstance(step, str), step)


def _whole_number(step: Any) -> int | None:
    return int(step) if isinstance(step, int | float) and step == step // 1 else None


def _step_of_name(path: Path) -> Step:
    return int(path.stem) if path.stem.isdecimal() else str(path)


def _columns(path: Path) -> frozenset[str]:
    if path.suffix == ".parquet":
        return frozenset(_parquet(path).schema_arrow.names)
    with path.open("rb") as file:
        first = next((row for line in file if (row := _json_object(line))), {})
    return frozenset(first)


def _parts(path: Path) -> Iterator[Part]:
    step = _step_of_name(path)
    size = path.stat().st_size
    if path.suffix == ".jsonl":
        any_step = isinstance(step, str) and "step" in _columns(path)
        yield Part(path, None, None, size) if any_step else Part(path, step, frozenset({step}), size)
        return
    file = _parquet(path)
    first_row = 1
    for group in range(file.num_row_groups):
        rows = file.metadata.row_group(group).num_rows
        share = round(size * rows / max(1, file.metadata.num_rows))
        if "step" in file.schema_arrow.names:
            batches = file.iter_batches(row_groups=[group], columns=["step"])
            values = {value for batch in batches for value in batch.column(0).unique().to_pylist()}
            steps = frozenset(_whole_number(value) for value in values) - {None}
            yield Part(path, None, steps, share, group, first_row)
        else:
            yield Part(path, step, frozenset({step}), share, group, first_row)
        first_row += rows


def _read_json_lines(part: Part, fields: Iterable[str], left_out: LeftOut) -> Iterator[Batch]:
    numbers: list[int] = []
    rows: list[dict[str, Any]] = []
    size = 0
    with part.path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            size += len(line)
            if row := _json_object(line):
                numbers.append(number)
                rows.append({name: row.get(name) for name in fields})
            elif line.strip():
                incomplete = not line.endswith(b"\n")
                left_out.add("incomplete last line" if incomplete else "line that is no JSON object", part.path, number)
            if len(rows) == ROWS:
                yield Batch(part.path, numbers, rows, size)
                numbers, rows, size = [], [], 0
    yield Batch(part.path, numbers, rows, size)


def _json_object(line: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except ValueError:  # also what is no UTF-8
        return None
    return row if isinstance(row, dict) else None


def _read_parquet(part: Part, fields: Iterable[str]) -> Iterator[Batch]:
    file = _parquet(part.path)
    # Columns that were not asked for, such as prompts, are not even read.
    present = sorted(set(fields) & set(file.schema_arrow.names))
    absent = dict.fromkeys(set(fields) - set(present))
    total = file.metadata.row_group(part.row_group).num_rows
    first = part.first_row
    for batch in file.iter_batches(batch_size=ROWS, row_groups=[part.row_group], columns=present):
        rows = [absent | row for row in batch.to_pylist()]
        yield Batch(part.path, list(range(first, first + len(rows))), rows, round(part.size * len(rows) / total))
        first += len(rows)


def _parquet(path: Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # Read as it is used: by default a whole row group, which may be the whole file, is fetched first.
        return pq.ParquetFile(path, pre_buffer=False, buffer_size=2**20)
    except pa.ArrowInvalid as error:
        raise ValueError(f"{path} is no parquet file: {error}") from None
