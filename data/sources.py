"""Rows of a data set: from the Hugging Face hub, from local files, or generated."""

import csv
import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from balanced_agg.data.dataset import Dataset, Row

FORMATS = (".parquet", ".jsonl", ".json", ".csv")
# Of the folders that `datasets` and `hf download` write; no rows in them.
NOT_DATA = {"dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"}
HUB_SECONDS = 10
ROWS_AT_ONCE = 64  # a row of LiveCodeBench is megabytes


class HubUnavailable(Exception):
    """The hub did not give the data set; the message says how to get it by hand."""


# The rows, how many there are if that is known, and the source as the manifest has it.
Opened = tuple[Iterable[Row], int | None, dict[str, Any]]


def find_source(dataset: Dataset, path: Path | None, only_one: bool) -> tuple[dict[str, Any], Callable[[], Opened]]:
    """The source that `--source` asks for: what tells it from another, known without reading a row, and what opens it.

    ValueError if `path` has no files for this data set. `only_one`: no other data set is to be found in `path`, so that
    file names need not tell them apart. HubUnavailable from opening.
    """
    if path is not None and not dataset.generate:
        files = local_files(dataset, path, only_one)
        folder = path if path.is_dir() else path.parent
        identity = {"source_files": {str(file.relative_to(folder)): sha256_of(file) for file in files}}
        record = {"source": str(path), "config": None, "split": None, "revision": None} | identity
        return identity, lambda: (local_rows(files), None, record)
    identity = {"source": dataset.source, "config": dataset.config, "split": dataset.split, "source_files": {}}
    if dataset.generate:
        identity["revision"] = version(dataset.source)
        return identity, lambda: (dataset.generate(), dataset.problems[0], identity)
    return identity, lambda: hub_rows(dataset, identity)


def hub_rows(dataset: Dataset, identity: dict[str, Any]) -> Opened:
    """Download the data set as it is at one commit. HubUnavailable if that cannot be done."""
    import datasets
    import httpx
    from huggingface_hub import HfApi

    try:
        # First the commit: without a hub this fails at once, while the download would try again for half a minute.
        revision = HfApi().dataset_info(dataset.source, timeout=HUB_SECONDS).sha
        rows = datasets.load_dataset(dataset.source, dataset.config, split=dataset.split, revision=revision)
    except (OSError, httpx.HTTPError, datasets.exceptions.DatasetsError) as error:
        raise HubUnavailable(by_hand(dataset, error)) from error
    batches = rows.with_format("arrow").iter(ROWS_AT_ONCE)  # ten times as fast as row by row
    return (row for batch in batches for row in batch.to_pylist()), len(rows), identity | {"revision": revision}


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
    """The rows of files of one format, a few at a time. ValueError if they cannot be read."""
    read = {".parquet": parquet_rows, ".csv": csv_rows}.get(files[0].suffix.lower(), json_rows)
    try:
        yield from read(files)
    except Exception as error:  # of pyarrow, pandas, fsspec: whatever a file that is not what it seems leads to
        raise ValueError(f"{', '.join(map(str, files))} cannot be read: {error}") from error


def parquet_rows(files: list[Path]) -> Iterator[Row]:
    for file in files:
        # Buffered: DAPO-Math-17k's row groups of a million rows do not fit into memory.
        with pq.ParquetFile(file, pre_buffer=False, buffer_size=2**20) as parquet:
            for batch in parquet.iter_batches(ROWS_AT_ONCE):
                yield from batch.to_pylist()


def csv_rows(files: list[Path]) -> Iterator[Row]:
    """All fields are text: an answer 025, or NA, is to stay that."""
    for path in files:
        with path.open(newline="", encoding="utf-8") as file:
            yield from csv.DictReader(file, restkey="", strict=True)


def json_rows(files: list[Path]) -> Iterator[Row]:
    """JSON lines, or a JSON array, whose fields may differ in type from row to row."""
    import datasets

    # `datasets` takes an empty file for a broken one.
    names = [str(file) for file in files if file.stat().st_size]
    if names:
        datasets.logging.set_verbosity(datasets.logging.CRITICAL)  # the error says it already
        yield from datasets.load_dataset("json", data_files=names, split="train", streaming=True)


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
    if len({(file.parent, re.sub(r"\d+", "", file.stem), file.suffix) for file in found}) > 1:
        raise ValueError(
            f"--source {path} has several files for {dataset.name} that are not parts of one: give the right one "
            f"of {[str(file.relative_to(path)) for file in found][:10]} itself"
        )
    return found


def is_data(relative: Path) -> bool:
    hidden = any(part.startswith(".") for part in relative.parts)
    return relative.suffix.lower() in FORMATS and relative.name not in NOT_DATA and not hidden


def plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
