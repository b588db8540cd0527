"""The table says what the samples say, in each of its forms."""

import json

import numpy as np
import pytest

from balanced_agg.commands.evaluate.samples import Benchmark
from balanced_agg.commands.evaluate.table import cells, markdown, summarize


def benchmark(name: str, k: int, **arrays: list[float]) -> Benchmark:
    return Benchmark(name, k, **{field: np.array(values, dtype=float) for field, values in arrays.items()})


EASY = benchmark(
    "easy", 2, right=[2, 1], came=[2, 2], defaulted=[0, 0], tokens=[30, 70], truncated=[0, 1], grader_failed=[0, 0]
)
HARD = benchmark("hard", 4, right=[0], came=[1], defaulted=[1], tokens=[5], truncated=[0], grader_failed=[1])


def test_the_summary_holds_every_figure_and_survives_json():
    summary = json.loads(json.dumps(summarize([EASY, HARD])))
    easy, hard = summary["benchmarks"]["easy"], summary["benchmarks"]["hard"]
    assert (easy["problems"], easy["k"], easy["mean@k"]["value"], easy["pass@2"]["value"]) == (2, 2, 0.75, 1.0)
    assert easy["response_tokens"] == {"value": 25.0, "low": 15.0, "high": 35.0}
    assert (easy["truncated"]["value"], easy["grader_failed"]["value"], easy["missing"]) == (0.25, 0.0, 0)
    assert [key for key in hard if key.startswith("pass@")] == ["pass@1", "pass@2", "pass@4"]
    assert (hard["missing"], hard["defaulted"], hard["grader_failed"]["value"]) == (2, 1, 1.0)
    assert summary["mean"]["mean@k"]["value"] == pytest.approx(0.375)
    assert summary["mean"]["pass@k"]["value"] == pytest.approx(0.5)


def test_a_single_benchmark_has_no_mean_row():
    assert "mean" not in summarize([EASY])


def test_a_benchmark_without_any_response_is_shown_as_such():
    summary = summarize(
        [benchmark("none", 1, right=[0], came=[0], defaulted=[0], tokens=[0], truncated=[0], grader_failed=[0])]
    )
    assert summary["benchmarks"]["none"]["response_tokens"] is None
    assert "| none | 1 | 1 | 0.0 [0.0–0.0] | 0.0 [0.0–0.0] | - | - |" in markdown(summary, "x")


def test_markdown_is_a_table_with_as_many_cells_in_each_row():
    rows = [line for line in markdown(summarize([EASY, HARD]), "title").splitlines() if "|" in line]
    assert len({row.count("|") for row in rows}) == 1
    assert rows[2].startswith("| easy | 2 | 2 | 75.0 [")


def test_scores_that_stand_for_no_judgement_are_named():
    text = markdown(summarize([EASY, HARD]), "title")
    assert "hard: 2 responses never came" in text
    assert "hard: 1 responses have no score" in text
    assert "hard: 100.0% of the responses broke the grader" in text
    assert "easy:" not in text


def test_a_row_has_a_value_and_its_interval_for_each_estimate():
    easy, hard, mean = cells(summarize([EASY, HARD]))
    assert easy == ("easy", "2", "2", "75.0 [50.0–100.0]", "100.0 [100.0–100.0]", "25 [15–35]", "25.0 [0.0–50.0]")
    assert (hard[0], mean[0]) == ("hard", "mean")
