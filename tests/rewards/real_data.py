"""The real benchmark files, which are not part of the repository."""

import json
import os
from pathlib import Path

import pytest

FOLDER = Path(os.environ.get("BALANCED_AGG_REAL_DATA", Path(__file__).parents[3] / "shared" / "data"))


def rows(name: str) -> list[dict]:
    """The rows of a jsonl or parquet file of the folder; skips the test if it is not there."""
    path = FOLDER / name
    if not path.exists():
        pytest.skip(f"{path} does not exist; set BALANCED_AGG_REAL_DATA to the folder with the benchmark files")
    if path.suffix == ".parquet":
        return pytest.importorskip("pyarrow.parquet").read_table(path).to_pylist()
    return [json.loads(line) for line in path.read_text().splitlines()]


def golds(name: str) -> list[str]:
    """The ground truths of a maths benchmark, as its file writes them."""
    return [row["final_answer"][0] if "final_answer" in row else str(row["answer"]) for row in rows(name)]
