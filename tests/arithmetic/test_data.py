"""Claims about the parquet files that the data command writes for verl."""

import pyarrow.parquet as pq
from balanced_agg.data.embedded import write_split

from balanced_agg.arithmetic.problems import sample_problems
from balanced_agg.arithmetic.tasks import ARITHMETIC
from balanced_agg.rewards import compute_score

PROBLEMS = sample_problems(20, seed=0)


def test_row_has_the_columns_that_verl_reads(tmp_path):
    assert write_split(ARITHMETIC, PROBLEMS, "train", tmp_path / "train.parquet") is True
    rows = pq.read_table(tmp_path / "train.parquet").to_pylist()
    assert rows[3] == {
        "data_source": "arithmetic",
        "prompt": [{"role": "user", "content": PROBLEMS[3].text}],
        "ability": "arithmetic",
        "reward_model": {"style": "rule", "ground_truth": PROBLEMS[3].answer},
        "extra_info": {"index": 3, "split": "train"},
    }
    assert [row["prompt"][0]["content"] for row in rows] == [problem.text for problem in PROBLEMS]
    for row in rows:
        truth = row["reward_model"]["ground_truth"]
        assert compute_score(row["data_source"], f"#{truth}", truth, row["extra_info"])["acc"] == 1.0


def test_equal_rows_are_not_written_again_but_others_are(tmp_path):
    path = tmp_path / "train.parquet"
    write_split(ARITHMETIC, PROBLEMS, "train", path)
    before = path.stat().st_mtime_ns
    assert write_split(ARITHMETIC, PROBLEMS, "train", path) is False
    assert path.stat().st_mtime_ns == before
    assert write_split(ARITHMETIC, PROBLEMS[:-1], "train", path) is True
    assert [entry.name for entry in tmp_path.iterdir()] == ["train.parquet"]


def test_damaged_file_is_written_again(tmp_path):
    path = tmp_path / "train.parquet"
    path.write_bytes(b"not parquet")
    assert write_split(ARITHMETIC, PROBLEMS, "train", path) is True
    assert pq.read_table(path).num_rows == len(PROBLEMS)
