"""Measures of a step are those of all its rows, wherever they stand; and no more than a batch of text is held."""

import json
import random
import tracemalloc
from pathlib import Path

import pytest
import torch

from balanced_agg.commands.inspect import read as reading
from balanced_agg.commands.inspect.lengths import length_counter
from balanced_agg.commands.inspect.read import LeftOut, columns_of, find_files
from balanced_agg.commands.inspect.steps import Question, measured_steps
from balanced_agg.loss.diagnostics import aggregation_metrics
from balanced_agg.loss.responses import Rows
from balanced_agg.loss.rules import RULES
from tests.commands.inspect.rollouts import rows_of, write_jsonl, write_parquet

BY_UID = ("uid", True)
BY_PROMPT = ("input", False)


def question(group=BY_UID, value="score", divide_by_std=True, limit=None, **lengths):
    counter = length_counter({"output", "response_tokens"}, **lengths)
    return Question(*group, None if value == "score" else value, divide_by_std, limit, counter, RULES.values())


def measure(*paths: Path, asked: Question | None = None, left_out: LeftOut | None = None):
    found = measured_steps(find_files(paths), asked or question(), {} if left_out is None else left_out)
    return {step.step: step for step in found}


def random_rows(steps=(1, 2, 10), seed=0) -> list[dict]:
    rng = random.Random(seed)
    return [
        row
        for step in steps
        for row in rows_of(
            [(f"{step}-{p}", rng.choice([0.0, 0.1, 1.0]), rng.randint(1, 40)) for p in range(4) for _ in range(5)], step
        )
    ]


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for step, measures in expected.items():
        assert (found[step].responses, found[step].groups) == (measures.responses, measures.groups)
        assert found[step].metrics == pytest.approx(measures.metrics)


def test_hand_arithmetic(tmp_path):
    """See rollouts.BY_HAND; |A| is the same for all four responses of group a, and cancels in the shares."""
    write_jsonl(tmp_path / "7.jsonl", rows_of(step=7))
    found = measure(tmp_path)[7]
    assert (found.responses, found.groups) == (6, 2)
    metrics = found.metrics
    assert metrics["positive_length"] == 20
    assert metrics["negative_length"] == 60
    assert metrics["length_gap"] == metrics["length_gap_within_group"] == -1
    assert metrics["mixed_groups"] == 0.5
    assert metrics["token/positive_share"] == pytest.approx(40 / 160)
    assert metrics["batch_token/positive_share"] == pytest.approx(40 / 160)
    assert metrics["sequence/positive_share"] == pytest.approx(0.5)
    assert metrics["balanced/positive_share"] == pytest.approx(0.5)
    # Divisor 40 in the group, lengths 10 + 30 - 50 - 70 = -80, six responses.
    advantage = 0.5 / (3**-0.5 + 1e-6)
    assert metrics["token/drift"] == pytest.approx(advantage * 80 / 40 / 6)
    # The longest response of the step is Dr. GRPO's constant, unless another is given.
    assert metrics["dr_grpo/drift"] == pytest.approx(advantage * 80 / 70 / 6)
    limited = measure(tmp_path, asked=question(limit=100))[7].metrics
    assert limited["dr_grpo/drift"] == pytest.approx(advantage * 80 / 100 / 6)
    of_budget = {"dr_grpo/drift", "delta_l/drift"}
    assert {name for name in metrics if limited[name] != pytest.approx(metrics[name])} == of_budget


def test_jsonl_and_parquet_give_equal_results(tmp_path):
    rows = random_rows()
    expected = measure(write_jsonl(tmp_path / "all.jsonl", rows))
    assert sorted(expected) == [1, 2, 10]
    assert measure(write_parquet(tmp_path / "all.parquet", rows)) == expected
    assert measure(write_parquet(tmp_path / "groups.parquet", rows, row_group_size=7)) == expected


def test_neither_row_order_nor_file_split_matter(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "ROWS", 3)
    rows = random_rows()
    expected = measure(write_jsonl(tmp_path / "all.jsonl", rows))
    for step in (1, 2, 10):
        write_jsonl(tmp_path / f"dump/{step}.jsonl", [row for row in rows if row["step"] == step])
    assert_same(measure(tmp_path / "dump"), expected)

    random.Random(1).shuffle(rows)
    assert_same(measure(write_jsonl(tmp_path / "shuffled.jsonl", rows)), expected)
    split = [
        write_jsonl(tmp_path / "b.jsonl", rows[:17]),
        write_parquet(tmp_path / "a.parquet", rows[17:40], row_group_size=5),
        write_jsonl(tmp_path / "a.jsonl", rows[40:]),
    ]
    assert_same(measure(*split), expected)
    assert_same(measure(*reversed(split)), expected)


def test_without_uid_the_prompt_is_the_group(tmp_path):
    rows = random_rows()
    expected = measure(write_jsonl(tmp_path / "with.jsonl", rows))
    without = [{name: value for name, value in row.items() if name != "uid"} for row in rows]
    found = measure(write_jsonl(tmp_path / "without.jsonl", without), asked=question(BY_PROMPT))
    assert_same(found, expected)


def test_prompts_as_lists_of_messages_are_groups_too(tmp_path):
    rows = rows_of()
    expected = measure(write_jsonl(tmp_path / "1.jsonl", rows))
    for row in rows:
        row["input"] = [{"role": "user", "content": row["input"]}]
    jsonl, parquet = write_jsonl(tmp_path / "chat/1.jsonl", rows), write_parquet(tmp_path / "chat/2.parquet", rows)
    assert_same(measure(jsonl, asked=question(BY_PROMPT)), expected)
    assert_same(measure(parquet, asked=question(BY_PROMPT)), expected)


def test_a_named_group_column_is_taken_as_it_is(tmp_path):
    rows = [row | {"uid": f"math_500_{prompt}"} for row, prompt in zip(rows_of(), (1, 1, 1, 1, 2, 2), strict=True)]
    write_jsonl(tmp_path / "1.jsonl", rows)
    assert measure(tmp_path)[1].groups == 1  # read as verl's key
    assert measure(tmp_path, asked=question(("uid", False)))[1].groups == 2


def test_given_advantages_are_used_as_they_are(tmp_path):
    given = [0.5, -1.0, 0.25, 0.0, 2.0, -2.0]
    rows = [row | {"advantage": advantage} for row, advantage in zip(rows_of(), given, strict=True)]
    write_jsonl(tmp_path / "1.jsonl", rows)
    found = measure(tmp_path, asked=question(value="advantage"))[1].metrics
    lengths = torch.tensor([row["response_tokens"] for row in rows])
    given = torch.tensor(given, dtype=torch.double)
    assert found == aggregation_metrics(Rows.of_lengths("aaaabb", None, lengths, given).responses(70))


def test_rows_that_cannot_be_used_are_named_and_counted_as_nothing(tmp_path):
    rows = rows_of()
    expected = measure(write_jsonl(tmp_path / "usable/1.jsonl", rows))
    pad = "pad" + "0" * 32
    odd = [
        rows[0] | {"score": None},
        {name: value for name, value in rows[0].items() if name != "score"},
        rows[0] | {"score": float("nan")},
        rows[0] | {"score": "1"},
        rows[0] | {"response_tokens": None},
        rows[0] | {"uid": None},
        rows[0] | {"uid": f"{pad}_0_0", "score": 0.0},
    ]
    path = write_jsonl(tmp_path / "odd/1.jsonl", rows + odd)
    with path.open("a") as file:
        file.write('["no object"]\n\n')
        file.write(json.dumps(rows[0])[:-9])
    left_out = {}
    assert measure(path, left_out=left_out) == expected
    assert {reason: rows["rows"] for reason, rows in left_out.items()} == {
        "no score": 2,
        "score is not finite": 1,
        "score is no number": 1,
        "no length in response_tokens": 1,
        "no uid": 1,
        "padding row of verl": 1,
        "line that is no JSON object": 1,
        "incomplete last line": 1,
    }
    assert left_out["no score"]["first"] == f"{path}:7"
    assert left_out["incomplete last line"]["first"] == f"{path}:16"


def test_a_last_line_without_newline_counts_if_it_is_complete(tmp_path):
    path = write_jsonl(tmp_path / "1.jsonl", rows_of())
    path.write_text(path.read_text().rstrip("\n"))
    left_out = {}
    assert measure(path, left_out=left_out)[1].responses == 6
    assert not left_out


def test_a_step_without_gradient_has_no_shares(tmp_path):
    write_jsonl(tmp_path / "1.jsonl", rows_of([("a", 1.0, 5), ("a", 1.0, 9), ("b", 0.0, 3), ("b", 0.0, 4)]))
    write_jsonl(tmp_path / "2.jsonl", [])
    found = measure(tmp_path)
    assert not [name for name in found[1].metrics if name.endswith(("positive_share", "gap", "positive_length"))]
    assert (found[2].responses, found[2].metrics) == (0, {})


def test_a_file_that_says_no_step_is_one_step(tmp_path):
    rows = [{name: value for name, value in row.items() if name != "step"} for row in rows_of()]
    path = write_jsonl(tmp_path / "rollouts.jsonl", rows)
    assert list(measure(path)) == [str(path)]
    assert list(measure(write_parquet(tmp_path / "12.parquet", rows))) == [12]


def test_a_row_of_another_step_than_its_file_is_refused(tmp_path):
    write_jsonl(tmp_path / "1.jsonl", [*rows_of(step=1), *rows_of(step=2)])
    with pytest.raises(ValueError, match=r"1\.jsonl:7 is of step 2, but its file is taken for step 1"):
        measure(tmp_path)


def test_a_file_given_twice_counts_once(tmp_path):
    path = write_jsonl(tmp_path / "1.jsonl", rows_of())
    assert measure(tmp_path, path)[1].responses == 6


@pytest.mark.parametrize("name", ["nowhere", "empty", "notes.txt", "broken.parquet"])
def test_what_holds_no_rollouts_is_refused_by_name(tmp_path, name):
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("{}")
    (tmp_path / "broken.parquet").write_text("PAR1")
    with pytest.raises(ValueError, match=name):
        measure(tmp_path / name)


def test_columns_are_those_that_every_file_has(tmp_path):
    rows = rows_of()
    paths = [
        write_jsonl(tmp_path / "1.jsonl", [rows[0] | {"more": 1}]),
        write_parquet(tmp_path / "2.parquet", [rows[0]]),
        write_jsonl(tmp_path / "3.jsonl", []),
    ]
    assert columns_of(paths) == set(rows[0])


def test_steps_come_in_the_order_of_their_numbers_and_then_files_that_say_none(tmp_path):
    for step in (10, 9, 2):
        write_jsonl(tmp_path / f"{step}.jsonl", rows_of(step=step))
    last = write_jsonl(tmp_path / "1-is-no-number.jsonl", [{k: v for k, v in rows_of()[0].items() if k != "step"}])
    assert list(measure(tmp_path)) == [2, 9, 10, str(last)]


def test_the_bytes_that_were_read_are_told_as_they_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "ROWS", 4)
    rows = rows_of() * 2
    for path in (write_jsonl(tmp_path / "1.jsonl", rows), write_parquet(tmp_path / "2.parquet", rows)):
        told = []
        measured_steps([path], question(), {}, told.append)
        assert len(told) >= 3 and sum(told) == pytest.approx(path.stat().st_size, abs=3)


def test_the_text_of_the_rollouts_is_never_held(tmp_path, monkeypatch):
    """8 MB of text in two steps are read within the memory of a few batches of 40 kB, and of their numbers."""
    monkeypatch.setattr(reading, "ROWS", 4)
    for step in (1, 2):
        rows = rows_of([(f"p{i // 8}", float(i % 2), 9) for i in range(400)], step)
        write_jsonl(tmp_path / f"{step}.jsonl", [row | {"input": "x" * 10_000} for row in rows])
    measure(tmp_path)  # what is loaded once is not counted
    tracemalloc.start()
    found = measure(tmp_path, asked=question(BY_PROMPT))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [step.responses for step in found.values()] == [400, 400]
    assert peak < 800_000
