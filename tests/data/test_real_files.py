"""Claims about real copies of the data sets, where they are at hand."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from balanced_agg.data.prepare import prepare
from balanced_agg.data.registry import CHOICES

from tests.real_data import real_file


def rows_of(name: str, file: str, folder: Path) -> tuple[list[dict], dict]:
    done = prepare(CHOICES[name][0], folder, real_file(file))
    return pq.read_table(done.path).to_pylist(), done.manifest


@pytest.mark.parametrize(
    "name, file, count",
    [
        ("math_500", "math500.jsonl", 500),
        ("aime_2024", "aime2024.jsonl", 30),
        ("olympiadbench", "olympiadbench.jsonl", 675),
        ("minerva", "minerva.jsonl", 272),
    ],
)
def test_every_row_of_a_benchmark_is_used(tmp_path, name, file, count):
    rows, manifest = rows_of(name, file, tmp_path)
    assert len(rows) == count
    assert all(row["reward_model"]["ground_truth"] and row["extra_info"]["id"] for row in rows)
    assert manifest["dropped"] == {} and manifest["warnings"] == []


def test_dapo_schema_with_each_problem_32_times_gives_each_once(tmp_path):
    rows, manifest = rows_of("dapo17k", "dapo_aime2024.parquet", tmp_path)
    assert len(rows) == 30
    assert manifest["source_rows"] == 960 and manifest["conflicting_prompts"] == 0
    assert all(row["reward_model"]["ground_truth"].isdigit() for row in rows)
    assert all('"Answer:"' in row["prompt"][0]["content"] for row in rows)
