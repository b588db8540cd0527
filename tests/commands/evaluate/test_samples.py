"""verl's dump read back: every response that was asked for is counted once, whether it came or not."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from balanced_agg.commands.evaluate.samples import asked, read_samples
from balanced_agg.plugin.guard.scores import REASON


def write_dump(folder, *samples):
    path = folder / "0.jsonl"
    with path.open("w") as file:
        for uid, source, acc, tokens, truncated in samples:
            extra = {"response_tokens": tokens, "truncated": truncated, "grader_failed": 0.0}
            file.write(json.dumps({"uid": uid, "data_source": source, "acc": acc, **extra}) + "\n")
    return path


def test_a_column_sets_each_rows_number_of_responses_and_the_default_the_rest(tmp_path):
    pq.write_table(pa.table({"data_source": ["a", "a"], "__rollout_n__": [32, 32]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"data_source": ["b"]}), tmp_path / "b.parquet")
    assert asked([tmp_path / "a.parquet", tmp_path / "b.parquet"], 2) == {"a": [32, 32], "b": [2]}


def test_responses_are_grouped_by_problem_and_lengths_pooled(tmp_path):
    dump = write_dump(
        tmp_path, ("p_0_0", "a", 1.0, 10, 0.0), ("q_0_0", "a", 0.0, 30, 1.0), ("p_1_0", "a", 0.0, 20, 0.0)
    )
    (benchmark,) = read_samples(dump, {"a": [2, 2]})
    assert (benchmark.k, benchmark.right.tolist(), benchmark.came.tolist()) == (2, [1, 0], [2, 1])
    assert (benchmark.tokens.tolist(), benchmark.truncated.tolist()) == ([30, 30], [0, 1])


def test_a_response_of_several_rows_is_its_last(tmp_path):
    rows = [
        ("p_0_2", "a", 1.0, 30, 0.0),
        ("p_0_0", "a", 1.0, 10, 0.0),
        ("p_0_1", "a", 1.0, 20, 0.0),
        ("p_1_0", "a", 0.0, 5, 0.0),
    ]
    (benchmark,) = read_samples(write_dump(tmp_path, *rows), {"a": [2]})
    assert (benchmark.right.tolist(), benchmark.came.tolist(), benchmark.tokens.tolist()) == ([1], [2], [35])


def test_a_problem_that_never_came_back_counts_as_wrong(tmp_path):
    dump = write_dump(tmp_path, ("p_0_0", "a", 1.0, 10, 0.0))
    (benchmark,) = read_samples(dump, {"a": [1, 1, 1]})
    assert (benchmark.right.tolist(), benchmark.came.tolist()) == ([1, 0, 0], [1, 0, 0])
    assert benchmark.tokens.tolist() == [10, 0, 0]


def test_problems_that_were_not_asked_are_not_counted(tmp_path):
    dump = write_dump(tmp_path, ("p_0_0", "a", 1.0, 10, 0.0))
    (benchmark,) = read_samples(dump, {"a": [1, 1, 1]}, complete=False)
    assert (benchmark.right.tolist(), benchmark.came.tolist()) == ([1], [1])


def test_a_response_without_a_score_is_wrong_and_has_no_length(tmp_path):
    dump = write_dump(
        tmp_path, ("p_0_0", "a", 1.0, 10, 1.0), ("p_1_0", "a", 0.0, 0, 0.0), ("q_0_0", "a", None, None, None)
    )
    lines = [json.loads(line) for line in dump.read_text().splitlines()]
    for line in lines[1:]:
        line[REASON] = "TimeoutError: no score within 300 s"
    dump.write_text("".join(json.dumps(line) + "\n" for line in lines))
    (benchmark,) = read_samples(dump, {"a": [2, 2]})
    assert (benchmark.right.tolist(), benchmark.came.tolist()) == ([1, 0], [1, 0])
    # Nothing that came with a score of a's was known yet when q's did not come.
    assert (benchmark.defaulted.tolist(), benchmark.tokens.tolist()) == ([1, 1], [10, 0])


def test_only_a_newline_ends_a_sample(tmp_path):
    dump = write_dump(tmp_path, ("p_0_0", "a", 1.0, 10, 0.0))
    sample = json.loads(dump.read_text()) | {"output": "a\u2028b\u2029c\x85d\x0ce\r\nf"}
    dump.write_text(json.dumps(sample, ensure_ascii=False) + "\n", encoding="utf-8")
    (benchmark,) = read_samples(dump, {"a": [1]})
    assert benchmark.right.tolist() == [1]


def test_benchmarks_keep_the_order_of_the_files(tmp_path):
    dump = write_dump(tmp_path, ("p_0_0", "b", 1.0, 1, 0.0), ("q_0_0", "a", 1.0, 1, 0.0))
    assert [benchmark.name for benchmark in read_samples(dump, {"a": [1], "b": [1]})] == ["a", "b"]


def test_mixed_numbers_of_responses_have_no_mean_at_k(tmp_path):
    with pytest.raises(ValueError, match="__rollout_n__"):
        read_samples(write_dump(tmp_path), {"a": [4, 8]})


def test_samples_of_an_unknown_source_are_refused(tmp_path):
    with pytest.raises(ValueError, match="not asked for"):
        read_samples(write_dump(tmp_path, ("p_0_0", "z", 1.0, 1, 0.0)), {"a": [1]})
