"""What counts as a score, what takes the place of one, and what is counted."""

import asyncio
import logging
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from balanced_agg.plugin.guard import scores
from balanced_agg.plugin.guard.faults import count_fallbacks
from balanced_agg.plugin.guard.scores import REASON, checked, fallback, guarded

GARBAGE = [math.nan, math.inf, -math.inf, None, "1", [1.0], {"acc": 1}, 1j, torch.tensor([1.0, 2.0])]
NUMBERS = [1, True, -0.5, np.float32(0.5), np.bool_(True), torch.tensor(2), torch.tensor([0.5])]


@pytest.mark.parametrize("score", NUMBERS, ids=repr)
def test_a_finite_number_is_a_score(score):
    assert checked(score) == float(score)


@pytest.mark.parametrize("score", GARBAGE, ids=repr)
def test_anything_else_is_an_error_that_shows_it(score):
    with pytest.raises(ValueError, match="not a finite number"):
        checked(score)


def test_the_reason_is_one_short_line():
    assert fallback("code", ValueError("a\n  b"))[REASON] == "ValueError: a b"
    assert len(fallback("code", ValueError("long " * 1000))[REASON]) <= 300


def test_a_fallback_reports_its_data_source_and_the_numbers_of_that_as_zero():
    async def compute_score(data):
        return {"reward_score": 1.0, "reward_extra_info": {"acc": 1.0, "format": 0.5, "pred": "8"}}

    handle = guarded(SimpleNamespace(compute_score=SimpleNamespace(remote=compute_score)))
    asyncio.run(handle.compute_score.remote(SimpleNamespace(non_tensor_batch={"data_source": ["geometry"]})))
    told = {"grader_failed": 1.0, REASON: "ValueError: boom"}
    assert fallback("geometry", ValueError("boom")) == {"data_source": "geometry", "acc": 0.0, "format": 0.0} | told
    assert fallback("code", ValueError("boom")) == {"data_source": "code"} | told


def test_each_kind_of_error_is_logged_once_with_its_traceback(caplog, monkeypatch):
    monkeypatch.setattr(scores, "_logged", set())
    with caplog.at_level(logging.ERROR):
        for error in (ValueError("first"), ValueError("second"), KeyError("score")):
            try:
                raise error
            except Exception as raised:
                fallback("maths", raised)
    first, other = caplog.records
    assert "ValueError: first" in first.message and "KeyError" in other.message
    assert all(record.exc_info[2] is not None for record in caplog.records)


def row(failed: float = 0.0, why: str | None = None) -> dict:
    return {"reward_extra_info": {"grader_failed": failed} | ({REASON: why} if why else {})}


def test_responses_and_their_fallbacks_are_counted_with_the_first_reason():
    keys = ["a_0_0", "a_1_0", "b_0_0", "b_2_0"]
    rows = [row(), row(1.0), row(1.0, "ValueError: boom"), row()]
    assert count_fallbacks(keys, rows) == (4, 2, "ValueError: boom")


def test_a_response_of_several_outputs_is_counted_once_by_its_last():
    keys = ["a_0_0", "a_0_10", "a_0_9", "a_1_0"]
    assert count_fallbacks(keys, [row(), row(1.0), row(), row()])[:2] == (2, 1)


def test_rows_without_a_graders_report_are_no_fallbacks():
    assert count_fallbacks(["a_0_0", "a_1_0"], [{}, {"reward_extra_info": None}])[1] == 0
