"""Rows of a data set: from the Hugging Face hub, from local files, or generated."""

import csv
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, TextIO

import pyarrow as pa
import pyarrow.parquet as pq
from balanced_agg.data.dataset import Dataset, Row

from balanced_agg.untrusted import TOO_DEEP, TOO_LARGE, bounded_memory, check_depth

FORMATS = (".parquet", ".jsonl", ".json", ".csv")
# Of the folders that `datasets` and `hf download` write; no rows in them.
NOT_DATA = {"dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"}
HUB_SECONDS = 10
ROWS_AT_ONCE, BYTES_AT_ONCE = 64, 2**24  # a row of LiveCodeBench is megabytes
LONGEST_INTEGER = 4300  # digits: Python refuses to read longer ones
LONGEST_FIELD = 2**31 - 1  # characters of a CSV field; Python's own limit of 128 KiB is less than some solutions have
# What tells two parts of one data set apart: 00000-of-00002, AIME I and II.
PART_NUMBER = re.compile(r"\d+")
ROMAN_NUMBER = re.compile(r"(?<![^\W\d_])I{1,3}(?![^\W\d_])", re.IGNORECASE)


class HubUnavailable(Exception):
    """The hub did not give the data set; the message says how to get it by hand."""


# The rows, how many there are if that is known, and the source as the manifest has it.
Opened = tuple[Iterable[Row], int | None, dict[str, Any]]


def find_source(
    dataset: Dataset, path: Path | list[Path] | None, only_one: bool
) -> tuple[dict[str, Any], Callable[[], Opened]]:
    """The source that `--source` asks for: what tells it from another, known without reading a row, and what opens it.

    ValueError if a `path` has no files for this data set, or if two have the same file. Several are parts of one data
    set, read in their order. `only_one`: no other data set is to be found in `path`, so that file names need not tell
    them apart. HubUnavailable from opening.
    """
    paths = [path] if isinstance(path, Path) else path or []
    if paths and not dataset.generate:
        files = [file for given in paths for file in local_files(dataset, given, only_one)]
        folder = os.path.commonpath(
            [given.absolute() if given.is_dir() else given.absolute().parent for given in paths]
        )
        identity = {"source_files": {os.path.relpath(file, folder): sha256_of(file) for file in files}}
        if len(identity["source_files"]) < len(files):
            raise ValueError(f"--source {', '.join(map(str, paths))}: the same file twice; give each once")
        source = ", ".join(map(str, paths))
        record = {"source": source, "config": None, "split": None, "revision": None} | identity
        return identity, lambda: (local_rows(files), None, record)
    identity = {"source": dataset.source, "config": dataset.config, "split": dataset.split, "source_files": {}}
    if dataset.generate:
        identity["revision"] = version(dataset.source)
        return identity, lambda: (dataset.generate(), dataset.problems[0], identity)
    return identity, lambda: hub_rows(dataset, identity)


def hub_rows(dataset: Dataset, identity: dict[str, Any]) -> Opened:
    """Download the data set as it is at one commit. HubUnavailable if that cannot be done.

    Nor is a column of JSON that mixes numbers and text taken from `datasets`, which would have put it as JSON anew.
    """
    import datasets
    import httpx
    from huggingface_hub import HfApi

    try:
        # First the commit: without a hub this fails at once, while the download would try again for half a minute.
        revision = HfApi().dataset_info(dataset.source, timeout=HUB_SECONDS).sha
        rows = datasets.load_dataset(dataset.source, dataset.config, split=dataset.split, revision=revision)
        if mixed := [name for name, kind in rows.features.items() if isinstance(kind, datasets.Json)]:
            raise ValueError(f"numbers and text mixed in {', '.join(mixed)}, which `datasets` changes")
    except (ValueError, OSError, httpx.HTTPError, datasets.exceptions.DatasetsError) as error:
        raise HubUnavailable(by_hand(dataset, error)) from error
    batches = rows.with_format("arrow").iter(ROWS_AT_ONCE)  # ten times as fast as row by row
    return (row for batch in batches for row in python_rows(batch)), len(rows), identity | {"revision": revision}


def by_hand(dataset: Dataset, error: Exception) -> str:
    options = f" --include '{dataset.files}'" if dataset.files else ""
    return (
        f"could not download {dataset.source} from the Hugging Face hub ({type(error).__name__}: {error}).\n"
        f"Without a network, download {dataset.files or 'its files'} elsewhere, put them into "
        f"downloads/{dataset.name}/ here, and name that folder:\n"
        f"  hf download {dataset.source} --repo-type dataset{options} --local-dir downloads/{dataset.name}\n"
        f"  balanced-agg prepare {dataset.name} --source downloads"
    )


def local_rows(files: list[Path]) -> Iterator[Row]:
    """The rows of these files, a few at a time. ValueError, one line with the file's name, if one cannot be read.

    Until the last row, the process has as much memory as files of their size can take, and MemoryError beyond.
    """
    with bounded_memory(files):
        for file in files:
            read = {".parquet": parquet_rows, ".csv": csv_rows}.get(file.suffix.lower(), json_rows)
            try:
                yield from read(file)
            except Exception as error:  # of pyarrow, csv, json: whatever a file that is not what it seems leads to
                why = TOO_LARGE if isinstance(error, MemoryError) else " ".join(str(error).split())
                raise ValueError(f"{file} cannot be read: {why}") from error


def parquet_rows(path: Path) -> Iterator[Row]:
    # Buffered: DAPO-Math-17k's row groups of a million rows do not fit into memory.
    with pq.ParquetFile(path, pre_buffer=False, buffer_size=2**20) as parquet:
        if parquet.metadata.num_rows > path.stat().st_size:
            raise ValueError(f"{parquet.metadata.num_rows} rows in {path.stat().st_size} bytes")
        size = sum(parquet.metadata.row_group(number).total_byte_size for number in range(parquet.num_row_groups))
        at_once = BYTES_AT_ONCE * parquet.metadata.num_rows // max(1, size)
        for batch in parquet.iter_batches(min(max(1, at_once), ROWS_AT_ONCE)):
            yield from python_rows(pa.Table.from_batches([batch]))


def python_rows(table: pa.Table) -> list[Row]:
    """The rows, in which a single-precision 0.7 is 0.7 and not 0.699999988079071."""
    shortest = with_narrow_floats_as(pa.string(), table.schema)
    if not shortest.equals(table.schema):
        table = table.cast(shortest).cast(with_narrow_floats_as(pa.float64(), table.schema))
    return table.to_pylist()


def with_narrow_floats_as(wanted: pa.DataType, schema: pa.Schema) -> pa.Schema:
    def replaced(kind: pa.DataType) -> pa.DataType:
        if pa.types.is_floating(kind) and kind.bit_width < 64:
            return wanted
        if pa.types.is_struct(kind):
            return pa.struct([field.with_type(replaced(field.type)) for field in kind])
        if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
            return pa.list_(replaced(kind.value_type))
        return kind

    return pa.schema([field.with_type(replaced(field.type)) for field in schema])


def csv_rows(path: Path) -> Iterator[Row]:
    """All fields are text: an answer 025, or NA, is to stay that."""
    csv.field_size_limit(LONGEST_FIELD)
    with open_text(path, newline="") as file:
        reader = csv.DictReader(file, strict=True)
        try:
            for row in reader:
                # Excel ends lines with empty fields.
                if any(row.pop(None, [])) or None in row.values():
                    raise ValueError(
                        "another number of fields than the header has (a comma without quotes, or cut off)"
                    )
                yield checked(row)
        except (ValueError, csv.Error) as error:
            raise ValueError(f"line {reader.reader.line_num}: {error}") from error


def json_rows(path: Path) -> Iterator[Row]:
    """The objects of JSON lines, or of a JSON array. Numbers keep their text, whatever the fields' other rows hold."""
    with open_text(path, newline="\n") as file:
        start = next((line for line in file if line.strip()), "").lstrip()
        file.seek(0)
        whole = start.startswith("[") or path.suffix.lower() == ".json"
        for first_line, text in [(1, file.read())] if whole else enumerate(file, 1):
            yield from json_objects(text, first_line)


class WrittenNumber(float):
    """A number of a JSON file, which `str` gives as it is written there: 0.70, 1e3, or 30 digits."""

    def __new__(cls, literal: str):
        number = super().__new__(cls, literal)
        number.literal = literal
        return number

    def __str__(self) -> str:
        return self.literal


def written_integer(literal: str) -> int | WrittenNumber:
    """An int, unless that would not have the same text."""
    return WrittenNumber(literal) if literal == "-0" or len(literal) > LONGEST_INTEGER else int(literal)


# Control characters in strings are let through: to_verl repairs or names them.
JSON = json.JSONDecoder(
    strict=False, parse_float=WrittenNumber, parse_int=written_integer, parse_constant=WrittenNumber
)


def json_objects(text: str, first_line: int) -> Iterator[Row]:
    """The objects one after another, or in arrays. ValueError that names the line of anything else."""
    line, end, blank = first_line, 0, re.compile(r"[ \t\r\n\ufeff]*")
    while (start := blank.match(text, end).end()) < len(text):
        line += text.count("\n", end, start)
        try:
            value, end = JSON.raw_decode(text, start)
        except RecursionError:
            raise ValueError(f"line {line}: {TOO_DEEP}") from None
        except json.JSONDecodeError as error:
            at = f"line {first_line + error.lineno - 1}, column {error.colno}"
            raise ValueError(f"{at}: cut off or not JSON ({error.msg.removesuffix(' starting at')})") from error
        for number, row in enumerate(value if isinstance(value, list) else [value], 1):
            where = f"line {line}" + (f", element {number}" if isinstance(value, list) else "")
            if not isinstance(row, dict):
                raise ValueError(f"{where}: {type(row).__name__} where an object with fields is expected")
            try:
                yield checked(row)
            except ValueError as error:
                raise ValueError(f"{where}: {error}") from error
        line += text.count("\n", start, end)


def open_text(path: Path, newline: str) -> TextIO:
    """UTF-8, with or without a byte-order mark, or UTF-16. What is not, `checked` finds in its row."""
    with path.open("rb") as file:
        encoding = json.detect_encoding(file.read(4))
    return path.open(encoding=encoding, errors="surrogateescape", newline=newline)


def checked(row: Row) -> Row:
    """The row. ValueError if it holds bytes that are not text, or half a character, which parquet cannot, or is nested
    more deeply than rows are.
    """
    check_depth(row)
    try:
        json.dumps(row, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise ValueError("not UTF-8 text") from error
    return row


def local_files(dataset: Dataset, path: Path, only_one: bool) -> list[Path]:
    """The files of this data set at `path`, a file or a folder. ValueError if there are none or it is not clear which.

    In a folder: those whose name, or a folder above them, begins like the data set's; without any, and if no other
    data set is asked for, all. Of these, those of the right configuration and split, where names tell them apart.
    """
    if not path.exists():
        raise ValueError(f"--source {path} does not exist")
    if path.is_file():
        if not only_one:
            raise ValueError(f"--source {path} is one file: prepare one data set from it, or give a folder")
        if path.suffix.lower() not in FORMATS:
            raise ValueError(f"--source {path} must be one of {', '.join(FORMATS)}")
        return [path]
    files = sorted(file for file in path.rglob("*") if is_data(file.relative_to(path)) and file.is_file())
    names = {file: [plain(part) for part in file.relative_to(path).with_suffix("").parts] for file in files}

    def named(candidates: list[Path], *beginnings: str) -> list[Path]:
        exact = [file for file in candidates if any(name in beginnings for name in names[file])]
        return exact or [file for file in candidates if any(name.startswith(beginnings) for name in names[file])]

    found = named(files, plain(dataset.name), *dataset.aliases) or (files if only_one else [])
    for part in (dataset.config, dataset.split):
        found = (part and named(found, plain(part))) or found
    if not found:
        raise ValueError(
            f"--source {path} has no {', '.join(FORMATS)} file for {dataset.name}: name it, or its folder, "
            f"{dataset.name}; found {[str(file.relative_to(path)) for file in files][:10]}"
        )
    if len({part_of(file.relative_to(path)) for file in found}) > 1:
        raise ValueError(
            f"--source {path} has several files for {dataset.name} that are not parts of one: give the right one "
            f"of {[str(file.relative_to(path)) for file in found][:10]} itself"
        )
    return found


def part_of(relative: Path) -> tuple[str, str, str]:
    """What all parts of one data set have in common: 1 and 2, or I and II, do not count."""
    folder, stem = (ROMAN_NUMBER.sub("", name) for name in (str(relative.parent), relative.stem))
    return folder, PART_NUMBER.sub("", stem), relative.suffix


def is_data(relative: Path) -> bool:
    hidden = any(part.startswith(".") for part in relative.parts)
    return relative.suffix.lower() in FORMATS and relative.name not in NOT_DATA and not hidden


def plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
