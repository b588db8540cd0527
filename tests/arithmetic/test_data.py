"""Claims about the parquet files that the data command writes for verl."""

import pyarrow.parquet as pq
import pytest
from balanced_agg.data import arithmetic as data

from balanced_agg.arithmetic.problems import sample_problems
from balanced_agg.rewards import compute_score

ROWS = data.to_rows(sample_problems(20, seed=0), "train")


def test_rows_read_back_are_those_written(tmp_path):
    assert data.write_parquet(ROWS, tmp_path / "train.parquet") is True
    assert pq.read_table(tmp_path / "train.parquet").to_pylist() == ROWS


def test_row_has_the_columns_that_verl_reads():
    assert ROWS[3] == {
        "data_source": "arithmetic",
        "prompt": [{"role": "user", "content": sample_problems(4, seed=0)[3].text}],
        "ability": "arithmetic",
        "reward_model": {"style": "rule", "ground_truth": sample_problems(4, seed=0)[3].answer},
        "extra_info": {"index": 3, "split": "train"},
    }


def test_reward_of_a_row_is_one_for_its_own_ground_truth():
    for row in ROWS:
        truth = row["reward_model"]["ground_truth"]
        assert compute_score(row["data_source"], f"#{truth}", truth, row["extra_info"])["acc"] == 1.0


def test_equal_rows_are_not_written_again_but_others_are(tmp_path):
    path = tmp_path / "train.parquet"
    data.write_parquet(ROWS, path)
    before = path.stat().st_mtime_ns
    assert data.write_parquet(ROWS, path) is False
    assert path.stat().st_mtime_ns == before
    assert data.write_parquet(ROWS[:-1], path) is True
    assert [entry.name for entry in tmp_path.iterdir()] == ["train.parquet"]


def test_damaged_file_is_written_again(tmp_path):
    path = tmp_path / "train.parquet"
    path.write_bytes(b"not parquet")
    assert data.write_parquet(ROWS, path) is True
    assert pq.read_table(path).num_rows == len(ROWS)


def test_no_rows_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="at least one problem"):
        data.write_parquet([], tmp_path / "train.parquet")
