"""Claims about the noisy demonstrations of both regimes."""

import random
import re
from dataclasses import FrozenInstanceError, replace
from functools import cache
from statistics import mean, pstdev

import pytest

from balanced_agg.arithmetic.demonstrations import REGIMES, Regime, demonstrate
from balanced_agg.arithmetic.problems import is_correct, sample_problems

GROUP_SIZE = 8
LINE = re.compile(r"(\d)([+-])(\d)=(\d?)([?;])")


@cache
def draw_groups(regime: Regime, prompts: int = 500) -> list[list[tuple[int, bool]]]:
    """(length in characters, right or not) of each response, by group."""
    rng = random.Random(0)
    groups = []
    for problem in sample_problems(prompts, seed=1):
        responses = [demonstrate(problem, regime, rng) for _ in range(GROUP_SIZE)]
        groups.append([(len(response), is_correct(response, problem.answer)) for response in responses])
    return groups


def mean_lengths(groups) -> tuple[float, float]:
    """Mean length of right and of wrong responses."""
    responses = [response for group in groups for response in group]
    return tuple(mean(length for length, right in responses if right is wanted) for wanted in (True, False))


@pytest.mark.parametrize("regime", REGIMES.values(), ids=REGIMES)
def test_demonstration_is_every_step_in_order_then_the_marked_last_value(regime):
    rng = random.Random(2)
    for problem in sample_problems(500, seed=3):
        response = demonstrate(problem, regime, rng)
        lines = LINE.findall(response)
        assert "".join(f"{a}{op}{b}={value}{end}" for a, op, b, value, end in lines) == response[:-2]
        settled = [line for line in lines if line[4] == ";"]
        assert [(op, int(b)) for _, op, b, _, _ in settled] == list(problem.steps)
        assert [int(a) for a, *_ in settled] == list(problem.values[:-1])
        assert response.endswith("#" + settled[-1][3])


@pytest.mark.parametrize("regime", REGIMES.values(), ids=REGIMES)
def test_only_the_last_step_is_doubted_or_wrong_and_decides_whether_the_response_is_right(regime):
    rng = random.Random(4)
    for problem in sample_problems(500, seed=5):
        response = demonstrate(problem, regime, rng)
        lines = [line for line in LINE.findall(response) if line[4] == ";"]
        right = [eval(a + op + b) == int(value) for a, op, b, value, _ in lines]
        assert all(right[:-1])
        assert right[-1] == is_correct(response, problem.answer)
        doubted = {line[:3] for line in LINE.findall(response) if line[4] == "?"}
        assert doubted <= {lines[-1][:3]}


@pytest.mark.parametrize("regime", REGIMES.values(), ids=REGIMES)
def test_right_responses_are_as_frequent_as_stated(regime):
    right = [right for group in draw_groups(regime) for _, right in group]
    assert mean(right) == pytest.approx(1 - regime.slip_rate, abs=0.04)  # five standard errors


@pytest.mark.parametrize("regime", REGIMES.values(), ids=REGIMES)
def test_most_groups_hold_right_and_wrong_responses(regime):
    assert mean(len({right for _, right in group}) == 2 for group in draw_groups(regime)) > 0.95


def test_length_gap_makes_wrong_responses_much_longer():
    right, wrong = mean_lengths(draw_groups(REGIMES["length_gap"]))
    assert wrong > 1.5 * right


def test_length_spread_makes_right_and_wrong_responses_equally_long():
    right, wrong = mean_lengths(draw_groups(REGIMES["length_spread"]))
    assert wrong == pytest.approx(right, rel=0.05)


@pytest.mark.parametrize("regime", REGIMES.values(), ids=REGIMES)
def test_lengths_vary_much_within_a_group(regime):
    groups = [[length for length, _ in group] for group in draw_groups(regime)]
    assert mean(pstdev(lengths) / mean(lengths) for lengths in groups) > 0.3


def test_regimes_differ_only_in_how_doubt_goes_with_slips():
    gap, spread = REGIMES["length_gap"], REGIMES["length_spread"]
    assert gap.doubt_rate_if_slip > gap.doubt_rate_otherwise
    assert spread.doubt_rate_if_slip == spread.doubt_rate_otherwise
    rates = {"doubt_rate_if_slip": 0.5, "doubt_rate_otherwise": 0.5}
    assert replace(gap, **rates) == replace(spread, **rates)


@pytest.mark.parametrize("regime", REGIMES.values(), ids=REGIMES)
def test_longest_demonstration_fits_in_80_tokens(regime):
    # Five steps of 6 characters, the restarts of 5 characters, the marked answer, and the end token.
    longest = 5 * 6 + regime.max_restarts * 5 + 2 + 1
    assert longest <= 80
    assert max(length for group in draw_groups(regime) for length, _ in group) + 1 <= longest


@pytest.mark.parametrize("slip_rate", [0.0, 1.0])
def test_every_demonstration_is_right_without_slips_and_wrong_with_certain_ones(slip_rate):
    regime = replace(REGIMES["length_gap"], slip_rate=slip_rate)
    rng = random.Random(6)
    right = {is_correct(demonstrate(problem, regime, rng), problem.answer) for problem in sample_problems(200, seed=7)}
    assert right == {slip_rate == 0.0}


def test_same_random_state_gives_the_same_demonstration():
    (problem,) = sample_problems(1, seed=10)
    draw = [demonstrate(problem, REGIMES["length_gap"], random.Random(11)) for _ in range(2)]
    assert draw[0] == draw[1]


def test_regimes_cannot_be_changed_in_place():
    with pytest.raises(FrozenInstanceError):
        REGIMES["length_gap"].slip_rate = 0.0
