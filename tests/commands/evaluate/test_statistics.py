"""pass@k and the intervals of means against definitions worked out by other means."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from balanced_agg.commands.evaluate.statistics import Estimate, estimate, mean_of, pass_at


def over_problems(scores: np.ndarray) -> Estimate:
    return estimate(scores, np.ones_like(scores))


@given(st.integers(1, 9), st.data())
def test_pass_at_k_is_the_share_of_subsets_that_hold_a_right_response(responses, data):
    right = data.draw(st.integers(0, responses))
    k = data.draw(st.integers(1, responses))
    outcomes = [1] * right + [0] * (responses - right)
    subsets = list(combinations(outcomes, k))
    assert pass_at(k, responses, right) == pytest.approx(sum(any(subset) for subset in subsets) / len(subsets))


@given(st.integers(1, 32), st.data())
def test_pass_at_1_is_the_share_of_right_responses_and_pass_at_k_never_falls_with_k(responses, data):
    right = data.draw(st.integers(0, responses))
    passes = [pass_at(k, responses, right) for k in range(1, responses + 1)]
    assert passes[0] == pytest.approx(right / responses)
    assert passes == sorted(passes)
    assert passes[-1] == float(right > 0)


@pytest.mark.parametrize("k", [0, 5])
def test_more_draws_than_responses_are_refused(k):
    with pytest.raises(ValueError, match=f"pass@{k}"):
        pass_at(k, responses=4, right=2)


def test_hand_arithmetic():
    assert pass_at(2, responses=4, right=1) == pytest.approx(1 - 3 / 6)
    assert pass_at(2, responses=4, right=2) == pytest.approx(1 - 1 / 6)


def test_the_interval_is_that_of_a_binomial_where_problems_are_coins():
    found = over_problems(np.array([1.0] * 300 + [0.0] * 700))
    deviation = (0.3 * 0.7 / 1000) ** 0.5
    assert found["value"] == pytest.approx(0.3)
    assert found["low"] == pytest.approx(0.3 - 1.96 * deviation, abs=0.002)
    assert found["high"] == pytest.approx(0.3 + 1.96 * deviation, abs=0.002)


def test_responses_to_one_problem_do_not_narrow_the_interval():
    """32 identical responses to each of 30 problems say as much as one response does."""
    right = np.array([1.0] * 9 + [0.0] * 21)
    assert estimate(right, np.ones(30)) == pytest.approx(estimate(32 * right, np.full(30, 32.0)))


def test_equal_scores_have_an_interval_of_no_width():
    assert set(over_problems(np.array([0.5, 0.5, 0.5])).values()) == {0.5}


def test_a_mean_over_responses_weighs_each_response_and_draws_problems():
    # Responses of 10, of 20 and 30 tokens, and none.
    found = estimate(np.array([10.0, 50.0, 0.0]), np.array([1.0, 2.0, 0.0]))
    assert found == {"value": 20.0, "low": 10.0, "high": 25.0}
    assert estimate(np.zeros(2), np.zeros(2)) is None


def test_the_mean_weighs_benchmarks_not_problems():
    assert mean_of([np.array([1.0]), np.zeros(99)]) == {"value": 0.5, "low": 0.5, "high": 0.5}


def test_the_same_scores_give_the_same_interval():
    scores = np.array([0.0, 0.25, 1.0, 0.5])
    assert over_problems(scores) == over_problems(scores)
