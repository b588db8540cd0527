"""Rollouts on disk, a batch of rows at a time: verl's dump (STEP.jsonl), other JSON lines, parquet."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from balanced_agg.runs.file_log import parse, printable
from balanced_agg.untrusted import TOO_LARGE, bounded_memory

# An int, or the path of a file that says no step.
Step = int | str
# Rows with their numbers in the file (from 1), and how many bytes of the file were read for them.
Batch = tuple[list[tuple[int, dict[str, Any]]], int]
# Reason -> how many rows could not be used for it, and where the first of them stands (FILE:ROW).
LeftOut = dict[str, dict[str, Any]]

ROWS = 256  # in a batch
LARGEST_STEP = 2**53  # up to which floats hold every whole number
SUFFIXES = (".jsonl", ".parquet")


def leave_out(left_out: LeftOut, reason: str, path: Path, number: int) -> None:
    left_out.setdefault(reason, {"rows": 0, "first": f"{path}:{number}"})["rows"] += 1


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


def step_of(path: Path) -> Step | None:
    """The step of all rows of a file, told by its name; None if each row says its own."""
    named = path.stem.isdecimal() and int(path.stem) < LARGEST_STEP
    if "step" in _columns(path) and (path.suffix == ".parquet" or not named):
        return None
    return int(path.stem) if named else str(path)


def read(path: Path, fields: Iterable[str], left_out: LeftOut) -> Iterator[Batch]:
    """Yield the rows of a file, each with the given fields and its ``step``; a field that it lacks is None.

    ValueError if a file called STEP.jsonl has a row of another step.
    """
    fields, of_file = {*fields, "step"}, step_of(path)
    batches = _read_parquet(path, fields) if path.suffix == ".parquet" else _read_json_lines(path, fields, left_out)
    for rows, size in batches:
        for number, row in rows:
            step = row["step"]
            whole = isinstance(step, int | float) and abs(step) < LARGEST_STEP and step == step // 1
            step = int(step) if whole else None
            if of_file is not None and step not in (None, of_file):
                raise ValueError(
                    f"{path}:{number} is of step {step}, but its file is taken for step {of_file}; give such a file a "
                    "name that is no number, and every row its step"
                )
            row["step"] = step if of_file is None else of_file
        yield rows, size


def _columns(path: Path) -> frozenset[str]:
    if path.suffix == ".parquet":
        return frozenset(_parquet(path).schema_arrow.names)
    with path.open("rb") as file:
        return frozenset(map(printable, next((row for row in map(parse, file) if isinstance(row, dict)), {})))


def _read_json_lines(path: Path, fields: Iterable[str], left_out: LeftOut) -> Iterator[Batch]:
    rows, size = [], 0
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            size += len(line)
            row = parse(line)
            if isinstance(row, dict):
                rows.append((number, {name: row.get(name) for name in fields}))
            elif line.strip():
                incomplete = not line.endswith(b"\n")
                leave_out(
                    left_out, "incomplete last line" if incomplete else "line that is no JSON object", path, number
                )
            if len(rows) == ROWS:
                yield rows, size
                rows, size = [], 0
    yield rows, size


def _read_parquet(path: Path, fields: set[str]) -> Iterator[Batch]:
    file, first, bytes_on_disk = _parquet(path), 1, path.stat().st_size
    # Columns that were not asked for, such as prompts, are not even read.
    present = sorted(fields & set(file.schema_arrow.names))
    absent = dict.fromkeys(fields - set(present))
    batches = file.iter_batches(batch_size=ROWS, columns=present)
    while True:
        with _complete(path):
            found = [row for batch in islice(batches, 1) for row in batch.to_pylist()]
        if not found:
            return
        rows = [(number, absent | row) for number, row in enumerate(found, start=first)]
        yield rows, round(bytes_on_disk * len(rows) / file.metadata.num_rows)
        first += len(rows)


def _parquet(path: Path) -> Any:
    import pyarrow.parquet as pq

    with _complete(path):
        # Read as it is used: by default a whole row group, which may be the whole file, is fetched first.
        file = pq.ParquetFile(path, pre_buffer=False, buffer_size=2**20)
        if file.metadata.num_rows > path.stat().st_size:  # no responses of their own
            raise MemoryError
        return file


@contextmanager
def _complete(path: Path) -> Iterator[None]:
    import pyarrow as pa

    try:
        with bounded_memory([path]):
            yield
    except MemoryError:
        raise ValueError(f"{path} cannot be read: {TOO_LARGE}") from None
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no complete parquet file: {' '.join(str(error).split())}") from None
