"""A log of verl's file logger is read as the history of the weights that the run ended with."""

import pytest

from balanced_agg.runs.file_log import merge, read_records

from .made_runs import write_log


def test_a_resumed_run_supersedes_the_steps_behind_its_checkpoint():
    before = [(step, {"loss": float(step)}) for step in range(1, 6)]
    after = [(3, {"acc": 0.5}), (4, {"loss": 40.0})]
    assert merge(before + after) == {1: {"loss": 1}, 2: {"loss": 2}, 3: {"loss": 3, "acc": 0.5}, 4: {"loss": 40}}


def test_later_values_of_the_same_step_win():
    assert merge([(0, {"a": 1, "b": 2}), (0, {"b": 3})]) == {0: {"a": 1, "b": 3}}


def test_what_is_no_finite_number_is_left_out():
    odd = {"null": None, "nan": float("nan"), "inf": float("inf"), "text": "1", "flag": True, "integer": 2}
    assert merge([(1, odd)]) == {1: {"integer": 2.0}}


def test_incomplete_lines_are_skipped_and_counted(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(
        b'{"step":1,"data":{"a":1}}\n{"step":2,"data":{"a\n{"step":2,"data":{"a":2}}\n\n{"step":3,"data":{"a":\xff'
    )
    assert read_records(path) == ([(1, {"a": 1}), (2, {"a": 2})], 2)


def test_nan_logged_as_null_leaves_the_step_with_what_else_it_has(tmp_path):
    path = write_log(tmp_path / "metrics.jsonl", [(1, {"a": None, "b": 1})])
    assert merge(read_records(path)[0]) == {1: {"b": 1.0}}


def test_a_run_that_failed_before_its_first_step_has_a_log_without_steps(tmp_path):
    (tmp_path / "metrics.jsonl").touch()
    assert read_records(tmp_path / "metrics.jsonl") == ([], 0)


@pytest.mark.parametrize("line", ["3", '{"step": "1", "data": {}}', '{"step": 1}', '{"prompt": "1+1"}'])
def test_json_of_another_kind_is_refused_with_file_and_line(tmp_path, line):
    path = tmp_path / "rollouts.jsonl"
    path.write_text('{"step": 1, "data": {}}\n' + line + "\n")
    with pytest.raises(ValueError, match=r"rollouts\.jsonl, line 2 is no record of verl's file logger"):
        read_records(path)
