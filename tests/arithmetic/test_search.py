"""Claims about the task `search`: its problems, the rule that grades, and its demonstrations."""

import random
import re
from itertools import product
from statistics import mean, pstdev

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balanced_agg.arithmetic.search import (
    REGIMES,
    SIGNS,
    SearchProblem,
    demonstrate,
    is_right,
    parse_problem,
    sample_problems,
)
from balanced_agg.arithmetic.tasks import SEARCH

PROBLEM = SearchProblem((3, 2, 5, 6), 6)  # 3+2-5+6 alone reaches it
GROUP_SIZE = 8


def reaching(problem: SearchProblem) -> list[str]:
    """The signs that reach the target by Python's own arithmetic, with every value on the way a digit."""
    found = []
    for signs in map("".join, product(SIGNS, repeat=3)):
        sums = [
            eval("".join(f"{s}{d}" for s, d in zip("+" + signs, problem.digits[:k], strict=False))) for k in (2, 3, 4)
        ]
        if all(0 <= value <= 9 for value in sums) and sums[-1] == problem.target:
            found.append(signs)
    return found


def test_every_problem_has_signs_that_reach_its_target_and_an_attempt_says_which():
    problems = sample_problems(500, seed=1)
    for problem in problems:
        signs = [signs for signs in map("".join, product(SIGNS, repeat=3)) if problem.attempt(signs)[1]]
        assert signs == reaching(problem) != []
    assert mean(len(reaching(problem)) == 1 for problem in problems) > 0.8


def test_problems_are_distinct_and_fewer_are_a_prefix_of_more():
    problems = sample_problems(4224, seed=2)
    assert len({problem.answer for problem in problems}) == 4224
    assert sample_problems(30, seed=2) == problems[:30]
    assert sample_problems(30, seed=3) != problems[:30]
    assert {len(problem.text) for problem in problems} == {7}


def test_an_attempt_stops_at_the_first_value_that_is_no_digit():
    assert PROBLEM.attempt("+-+") == ("3+2=5-5=0+6=6", True)
    assert PROBLEM.attempt("++-") == ("3+2=5+5", False)
    assert PROBLEM.attempt("-+-") == ("3-2=1+5=6-6=0", False)


@pytest.mark.parametrize(
    ("response", "right"),
    [
        ("3+2=5-5=0+6=6!", True),
        ("3+2=5+5x3+2=5-5=0+6=6!", True),
        ("anything xx3+2=5-5=0+6=6!\n", True),
        ("3+2=5-5=0+6=6", False),  # no claim
        ("3+2=5-5=0+6=6?", False),
        ("3+2=5-5=0+6=6!!", False),
        ("3+2=5-5=0+6=6!x", False),
        ("3-2=1+5=6-6=0!", False),  # worked out, and not the target
        ("3-2=1+5=6!", False),  # the target, with a digit left
        ("3+2=6-5=1+6=6!", False),  # a slip, or two that cancel
        ("3+2=5-5=0+5=6!", False),  # another digit
        ("3*2=6-5=1+5=6!", False),
        ("!", False),
        ("", False),
    ],
)
def test_right_is_a_claim_after_an_attempt_without_slip_that_reaches_the_target(response, right):
    assert is_right(response, PROBLEM.answer) is right


def test_some_signs_are_right_and_all_others_wrong():
    for problem in sample_problems(60, seed=4):
        for signs in map("".join, product(SIGNS, repeat=3)):
            assert is_right(problem.attempt(signs)[0] + "!", problem.answer) is (signs in reaching(problem))


@given(st.text(alphabet=SEARCH.alphabet))
def test_any_response_can_be_graded_and_a_right_one_ends_in_an_attempt_that_claims(response):
    assert not is_right(response, PROBLEM.answer) or response.endswith("3+2=5-5=0+6=6!")


NO_PROBLEMS = ["", "3256", "3256=", "3256=46", "325=4", "3256=6:", "३256=6", "3256=9", 3256, None]


@pytest.mark.parametrize("answer", NO_PROBLEMS)
def test_what_is_no_problem_is_refused(answer):
    with pytest.raises(ValueError, match="not a problem of the task search"):
        parse_problem(answer)


@pytest.mark.parametrize("regime", REGIMES.values(), ids=REGIMES)
def test_a_demonstration_is_attempts_without_slips_of_which_the_last_alone_may_be_right(regime):
    rng = random.Random(5)
    for problem in sample_problems(300, seed=6):
        response = demonstrate(problem, regime, rng)
        attempts = response[:-1].split("x")
        signs = ["".join(re.findall(r"[+-]", attempt)).ljust(3, "+") for attempt in attempts]
        assert attempts == [problem.attempt(chosen)[0] for chosen in signs]
        assert [problem.attempt(chosen)[1] for chosen in signs] == [False] * (len(signs) - 1) + [response[-1] == "!"]
        assert is_right(response, problem.answer) is (response[-1] == "!")
        assert response[-1] == "!" or regime.early or len(attempts) > regime.attempts


def test_wrong_demonstrations_are_longer_in_length_gap_and_shorter_in_length_spread():
    ratios = {}
    for name, regime in REGIMES.items():
        rng = random.Random(7)
        drawn = [(demonstrate(problem, regime, rng), problem) for problem in sample_problems(4000, seed=8)]
        cut = [(min(len(text), SEARCH.longest), is_right(text[: SEARCH.longest], p.answer)) for text, p in drawn]
        right, wrong = ([length for length, ok in cut if ok is wanted] for wanted in (True, False))
        assert 0.4 < len(right) / len(cut) < 0.7
        assert pstdev(length for length, _ in cut) > 0.4 * mean(length for length, _ in cut)
        ratios[name] = mean(wrong) / mean(right)
    print(ratios)
    # Equal in the model that has learnt from them: tests/arithmetic/test_warm_start.py.
    assert ratios["length_spread"] == pytest.approx(0.8, abs=0.1)
    assert ratios["length_gap"] > 1.4
