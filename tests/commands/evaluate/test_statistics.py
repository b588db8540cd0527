"""mean@k, pass@k and their intervals against definitions worked out by other means."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from balanced_agg.commands.evaluate.statistics import (
    estimate,
    estimate_over_responses,
    mean_at_k,
    mean_of,
    pass_at,
    pass_at_k,
)


@given(st.integers(1, 9), st.data())
def test_pass_at_k_is_the_share_of_subsets_that_hold_a_right_response(responses, data):
    right = data.draw(st.integers(0, responses))
    k = data.draw(st.integers(1, responses))
    outcomes = [1] * right + [0] * (responses - right)
    subsets = list(combinations(outcomes, k))
    assert pass_at(k, responses, right) == pytest.approx(sum(any(subset) for subset in subsets) / len(subsets))


@given(st.integers(1, 32), st.data())
def test_pass_at_1_is_mean_at_k_and_pass_at_k_never_falls_with_k(responses, data):
    right = data.draw(st.integers(0, responses))
    passes = [pass_at(k, responses, right) for k in range(1, responses + 1)]
    assert passes[0] == pytest.approx(right / responses)
    assert passes == sorted(passes)
    assert passes[-1] == float(right > 0)


@pytest.mark.parametrize("k", [0, 5])
def test_more_draws_than_responses_are_refused(k):
    with pytest.raises(ValueError, match=f"pass@{k}"):
        pass_at(k, responses=4, right=2)


def test_hand_arithmetic_of_two_problems():
    accuracy = [[1, 0, 0, 0], [1, 1, 0, 0]]
    assert mean_at_k(accuracy).tolist() == [0.25, 0.5]
    assert pass_at_k(accuracy, 2).tolist() == [pytest.approx(1 - 3 / 6), pytest.approx(1 - 1 / 6)]


def test_the_interval_is_that_of_a_binomial_where_problems_are_coins():
    scores = np.array([1.0] * 300 + [0.0] * 700)
    found = estimate(scores)
    deviation = (0.3 * 0.7 / 1000) ** 0.5
    assert found.value == pytest.approx(0.3)
    assert found.low == pytest.approx(0.3 - 1.96 * deviation, abs=0.002)
    assert found.high == pytest.approx(0.3 + 1.96 * deviation, abs=0.002)


def test_responses_to_one_problem_do_not_narrow_the_interval():
    """32 identical responses to each of 30 problems say as much as one response does."""
    once = [[1.0]] * 9 + [[0.0]] * 21
    repeated = [row * 32 for row in once]
    assert estimate(mean_at_k(once)) == estimate(mean_at_k(repeated))


def test_equal_scores_have_an_interval_of_no_width():
    found = estimate(np.array([0.5, 0.5, 0.5]))
    assert (found.low, found.value, found.high) == pytest.approx((0.5, 0.5, 0.5))


def test_a_mean_over_responses_weighs_each_response_and_draws_problems():
    found = estimate_over_responses([[10.0], [20.0, 30.0], []])
    assert found.value == 20.0
    assert (found.low, found.high) == (10.0, 25.0)
    assert estimate_over_responses([[], []]) is None


def test_the_mean_weighs_benchmarks_not_problems():
    found = mean_of([np.array([1.0]), np.zeros(99)])
    assert (found.low, found.value, found.high) == (0.5, 0.5, 0.5)


def test_the_same_scores_give_the_same_interval():
    scores = np.array([0.0, 0.25, 1.0, 0.5])
    assert estimate(scores) == estimate(scores)
