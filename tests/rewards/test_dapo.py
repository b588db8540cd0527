"""Claims about DAPO's integer answers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balanced_agg.rewards import compute_score
from balanced_agg.rewards.final_answer import stated_answer
from tests.real_data import rows


def score(response: str, ground_truth: str) -> float:
    return compute_score("math_dapo", response, ground_truth)["score"]


@pytest.mark.parametrize(
    "line",
    [
        "Answer: 142",
        "Answer: $142$",
        r"Answer: \boxed{142}",
        r"Answer: $\boxed{142}$",
        "**Answer:** 142",
        "**Answer**: 142",
        "Answer: **142**",
        "Answer: 142.",
        "Answer: 142.0",
        "Answer: 0142",
        "Answer:142",
        "answer : 142",
        "Answer:\n142",
        r"Answer: $142^\circ$",
        "Answer: 142 degrees",
        r"Answer: $142 \text{ cm}$",
        "Answer: x = 142",
        r"Answer: \frac{284}{2}",
        r"Answer: $2 \cdot 71$",
        "Answer:\n\\[\n142\n\\]",
        "Answer:\n$$\n142\n$$",
        r"\boxed{142}",
        "The final answer: $\\boxed{142}$.",
    ],
)
@pytest.mark.parametrize("ground_truth", ["142", "142.0", "$142$", "142\n"])
def test_every_way_to_write_the_right_answer_grades_one(line, ground_truth):
    assert score(f"We try 7 and 8.\n\n{line}", ground_truth) == 1.0


@pytest.mark.parametrize(
    "response",
    [
        "",
        "142",
        "It is 142.",
        "Answer: 143",
        "Answer: -142",
        "Answer: 14 2/3",
        "Answer: 1420",
        "Answer:",
        "Answer: 142 or 143",
        "Answer: 142\n\nNo.\n\nAnswer: 143",
        "Answer: 142\n\nWait, it is \\boxed{143}",
        "<think>Answer: 142",
        "<think>Answer: 142</think>",
        r"Answer: \frac{285}{2}",
        r"\boxed{142",
        "Answer: 1,42",
        "Answer: " + 3000 * "1",
    ],
)
def test_wrong_missing_or_superseded_answers_grade_zero(response):
    assert score(response, "142") == 0.0


def test_thousands_separators_make_no_difference():
    assert score("Answer: 1,234,567", "1234567") == 1.0
    assert score(r"Answer: $1{,}234{,}567$", "1234567") == 1.0
    assert score("Answer: 1234567", "1,234,567") == 1.0


@given(st.integers(-(10**9), 10**9))
def test_an_integer_grades_one_against_itself_alone(number):
    response = f"So we are done.\n\nAnswer: {number}"
    assert score(response, str(number)) == 1.0
    assert score(response, f"{number}.0") == 1.0
    assert score(response, str(number + 1)) == score(response, str(number - 1)) == 0.0


def test_the_answer_ends_with_its_line():
    assert stated_answer("Answer: 5\nThis was problem 6.") == "5"


def test_every_real_ground_truth_grades_one_and_its_successor_zero():
    truths = {row["reward_model"]["ground_truth"] for row in rows("dapo_aime2024.parquet")}
    assert truths
    for truth in truths:
        assert score(f"Thus we conclude.\n\nAnswer: ${truth}$", truth) == 1.0
        assert score(f"Thus we conclude.\n\nAnswer: ${int(truth) + 1}$", truth) == 0.0
