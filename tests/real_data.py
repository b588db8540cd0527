"""Copies of the real benchmark files, which are not part of the repository.

They are looked for in the folder BALANCED_AGG_REAL_DATA, else in a folder `data` of a directory beside the checkout.
"""

import json
import os
from pathlib import Path

import pytest

from tests.composed import ROOT


def real_file(name: str) -> Path:
    """The file; skips the test if there is none."""
    folder = os.environ.get("BALANCED_AGG_REAL_DATA")
    candidates = [Path(folder, name)] if folder else sorted(ROOT.parent.glob(f"*/data/{name}"))
    found = next((path for path in candidates if path.is_file()), None)
    if found is None:
        pytest.skip(f"no {name}: set BALANCED_AGG_REAL_DATA to the folder with the benchmark files")
    return found


def rows(name: str) -> list[dict]:
    """The rows of a jsonl or parquet file."""
    path = real_file(name)
    if path.suffix == ".parquet":
        return pytest.importorskip("pyarrow.parquet").read_table(path).to_pylist()
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def golds(name: str) -> list[str]:
    """The ground truths of a maths benchmark, as its file writes them."""
    return [row["final_answer"][0] if "final_answer" in row else str(row["answer"]) for row in rows(name)]
