"""Claims about the problems and about the rule that grades responses."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balanced_agg.arithmetic.problems import is_correct, sample_problems


def test_answer_is_what_python_computes_for_the_text():
    for problem in sample_problems(2000, seed=1):
        assert problem.answer == str(eval(problem.text.removesuffix("=")))


def test_every_intermediate_value_is_one_digit():
    for problem in sample_problems(2000, seed=2):
        assert all(0 <= value <= 9 for value in problem.values)


def test_same_seed_gives_same_problems_and_another_seed_gives_others():
    assert sample_problems(50, seed=3) == sample_problems(50, seed=3)
    assert sample_problems(50, seed=3) != sample_problems(50, seed=4)


def test_fewer_problems_are_a_prefix_of_more():
    assert sample_problems(100, seed=5)[:30] == sample_problems(30, seed=5)


def test_sampled_problems_are_distinct_and_within_the_step_range():
    problems = sample_problems(3000, seed=6)
    assert len({problem.text for problem in problems}) == 3000
    assert {len(problem.steps) for problem in problems} == {3, 4, 5}


def test_no_problems_is_an_empty_list():
    assert sample_problems(0, seed=0) == []


def test_every_answer_is_about_equally_likely():
    answers = [problem.answer for problem in sample_problems(10_000, seed=7)]
    # 1000 are expected for each digit; 150 is five standard deviations.
    assert all(abs(answers.count(str(digit)) - 1000) < 150 for digit in range(10))


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        ("3+5=8;#8", "8"),
        ("#8", "8"),
        ("3+5=8;#8\n", "8"),
        ("#7#8", "8"),
        ("3+5=8;#8;", None),
        ("3+5=8;#8 or so", None),
        ("3+5=8;#18", None),
        ("3+5=8;#-8", None),
        ("3+5=8;#", None),
        ("3+5=8;", None),
        ("8", None),
        ("#٨", None),
        ("", None),
    ],
)
def test_answer_is_the_digit_between_the_last_mark_and_the_end(response, answer):
    assert [digit for digit in "0123456789" if is_correct(response, digit)] == [answer] * (answer is not None)


@given(st.text())
def test_any_text_can_be_graded_and_needs_a_mark_to_be_right(text):
    assert is_correct(text, "8") is False or "#" in text


@given(st.text(), st.sampled_from("0123456789"))
def test_whatever_precedes_the_marked_answer_is_ignored(text, answer):
    assert is_correct(f"{text}#{answer}", answer)
    assert not is_correct(f"{text}#{(int(answer) + 1) % 10}", answer)


def test_random_characters_are_graded_right_only_if_they_end_in_the_marked_answer():
    rng = random.Random(8)
    for _ in range(5000):
        text = "".join(rng.choices("0123456789+-=;?#", k=rng.randrange(12)))
        assert is_correct(text, "4") == text.endswith("#4")
