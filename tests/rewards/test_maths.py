"""Claims about which answers are equal, on written examples, by property, and on every row of the real files."""

import json
import math
import re
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from balanced_agg.rewards import answer_text, compute_score
from balanced_agg.rewards.equality import answers_equal
from balanced_agg.rewards.final_answer import final_answer
from balanced_agg.rewards.maths import accepted_answers
from tests.real_data import golds
from tests.rewards.answers import RIGHT, WRONG

REAL_FILES = {"math_500": "math500.jsonl", "aime_2024": "aime2024.jsonl", "olympiadbench": "olympiadbench.jsonl"}
TEMPLATES = [
    "We have $x = 3$ and $y = 4$.\n\nSo the final answer is $\\boxed{%s}$.",
    "Thus \\[\n\\boxed{%s}\n\\]",
    "**Answer:** $\\boxed{%s}$ degrees",
    "<think>It could be \\boxed{-1}.</think>\nTherefore \\(\\fbox{%s}\\).",
    "First we get 17.\n\nThe final answer is: $%s$.",
]


def grade_all(data_source: str, pairs: list[tuple[str, str]]) -> list[float]:
    """Scores of (ground truth, response) pairs, graded as verl does: from several threads."""
    with ThreadPoolExecutor(8) as threads:
        results = list(threads.map(lambda pair: compute_score(data_source, pair[1], pair[0]), pairs))
    assert not any(result["grader_failed"] for result in results)
    return [result["score"] for result in results]


@pytest.mark.parametrize("kind", RIGHT)
def test_the_same_answer_in_another_notation_is_equal(kind):
    assert [pair for pair in RIGHT[kind] if not answers_equal(*pair)] == []


@pytest.mark.parametrize("kind", WRONG)
def test_a_different_answer_is_not_equal(kind):
    assert [pair for pair in WRONG[kind] if answers_equal(*pair)] == []


@given(
    st.integers(-(10**12), 10**12),
    st.sampled_from(["%d", "%d.0", "$%d$", "%d.", "x = %d", r"\mathbf{%d}", r"\textbf{%d}", "%d^\\circ"]),
)
def test_integers_equal_themselves_and_not_their_neighbours(number, spelling):
    assert answers_equal(str(number), spelling % number)
    assert not answers_equal(str(number), spelling % (number + 1))
    assert not answers_equal(str(number), spelling % (number - 1))


@given(st.integers(1000, 10**12))
def test_thousands_separators_make_no_difference(number):
    for separator in (",", r",\!", "{,}"):
        assert answers_equal(str(number), f"{number:,}".replace(",", separator))
        assert not answers_equal(str(number), f"{number + 1:,}".replace(",", separator))


@given(st.integers(-999, 999), st.integers(1, 999))
def test_a_fraction_equals_its_other_spellings_and_no_neighbour(top, bottom):
    lowest = Fraction(top, bottom)
    spelled = rf"\dfrac{{{lowest.numerator}}}{{{lowest.denominator}}}"
    assert answers_equal(f"{top}/{bottom}", spelled)
    assert not answers_equal(rf"\frac{{{top + 1}}}{{{bottom}}}", spelled)


@given(
    st.lists(st.integers(-99, 99), min_size=2, max_size=6).flatmap(
        lambda parts: st.tuples(st.just(parts), st.permutations(parts))
    )
)
def test_a_list_needs_every_part_once_in_any_order_but_a_tuple_its_own_order(lists):
    parts, permuted = (list(map(str, parts)) for parts in lists)
    gold = ",".join(f"${part}$" for part in parts)
    assert answers_equal(gold, ", ".join(permuted))
    assert not answers_equal(gold, ", ".join(permuted[1:]))
    assert not answers_equal(gold, ", ".join([*permuted, "1000"]))
    assert not answers_equal(gold, ", ".join(["1000", *permuted[1:]]))
    assert answers_equal(f"({', '.join(parts)})", f"({', '.join(permuted)})") == (parts == permuted)


@given(st.integers(1, 9999), st.integers(-40, 40))
def test_scientific_notation_is_read_exactly(digits, exponent):
    gold = f"{digits / 1000}e{exponent}"
    assert answers_equal(gold, rf"{digits / 1000} \times 10^{{{exponent}}}")
    assert not answers_equal(gold, rf"{(digits + 1) / 1000} \times 10^{{{exponent}}}")
    assert not answers_equal(gold, rf"{digits / 1000} \times 10^{{{exponent + 1}}}")


def test_only_minerva_has_a_tolerance_and_only_for_decimals():
    response = r"\boxed{2.77777}"
    assert compute_score("minerva", response, "2.7778")["score"] == 1.0
    assert compute_score("minerva", r"\boxed{\frac{25}{9}}", "2.7778")["score"] == 1.0
    assert compute_score("math_500", response, "2.7778")["score"] == 0.0
    assert compute_score("minerva", r"\boxed{2.79}", "2.7778")["score"] == 0.0
    assert compute_score("minerva", r"\boxed{20001}", "20000")["score"] == 0.0
    assert compute_score("minerva", r"\boxed{547001}", "5.47e5")["score"] == 0.0


@pytest.mark.parametrize(
    ("ground_truth", "accepted"),
    [
        ("5", ["5"]),
        ("5\n", ["5"]),
        (json.dumps([r"\frac{1}{2}", "0.5"]), [r"\frac{1}{2}", "0.5"]),
        (str([r"\frac{1}{2}", "it's"]), [r"\frac{1}{2}", "it's"]),
        (("1", "2"), ["1", "2"]),
        (["3 "], ["3"]),
        ("[1, 2]", ["[1, 2]"]),
        ("[-2,7]", ["[-2,7]"]),
    ],
)
def test_a_list_of_strings_is_a_choice_and_anything_else_one_answer(ground_truth, accepted):
    assert accepted_answers(ground_truth) == accepted


@pytest.mark.parametrize(
    ("number", "answer"),
    [
        *[(5, "5"), (-3, "-3"), (0, "0"), (100, "100"), (10**400, f"{10**400}"), (12.0, "12"), (-0.0, "0")],
        *[(0.1, "0.1"), (-2.50, "-2.5"), (1200.0, "1200"), (1e22, f"1{'0' * 22}"), (1e-7, "0.0000001")],
        *[(np.int64(7), "7"), (np.uint8(20), "20"), (np.float64(12.0), "12"), (np.float32(0.1), "0.1")],
    ],
)
def test_a_number_is_one_answer_in_its_shortest_decimal_writing(number, answer):
    assert accepted_answers(number) == [answer]


@pytest.mark.parametrize(
    "ground_truth",
    [True, np.True_, math.nan, -math.inf, np.float32("nan"), b"5", None, "", " \n", [], ["1", ""], [1, 2], "['']"],
)
def test_a_ground_truth_without_answers_is_an_error(ground_truth):
    with pytest.raises(ValueError, match="ground_truth"):
        accepted_answers(ground_truth)


def test_any_accepted_answer_suffices():
    for answer, score in ((r"\frac{1}{2}", 1.0), ("7", 1.0), ("8", 0.0)):
        assert compute_score("minerva", rf"\boxed{{{answer}}}", json.dumps(["0.5", "7"]))["score"] == score


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        (r"\boxed{1} and later \boxed{\frac{1}{2}}.", r"\frac{1}{2}"),
        (r"$\boxed{69}$ and $\boxed{84}$", "69, 84"),
        (r"so $\boxed{-2} \quad \text{and} \quad \boxed{1}$", "-2, 1"),
        (r"$x = \boxed{-2}$ or $x = \boxed{1}$", "-2, 1"),
        (r"\boxed{\boxed{5}}", "5"),
        (r"\boxed{ \{1, 2\} }", r"\{1, 2\}"),
        (r"$\boxed 5$", "5"),
        (r"\boxed{5} so it is \boxed{7", None),
        (r"\boxed{5}, no: \boxed{}", None),
        ("The answer is 5, wait.\nThe answer is 6.", "6"),
        ("The answer is:\n$$\\frac{1}{2}$$", "\\frac{1}{2}"),
        ("The answer is\n\\[\n88\n\\]", "88"),
        ("We find\n\\[\nx = 88\n\\]\n", "x = 88"),
        ("The answer is 12 because 3 * 4 = 12.", "12"),
        ("We get $5$.\nThen $6$ and so $7$.", "7"),
        ("3 apples\nand 4 pears", "4"),
        ("<think>\\boxed{5}", None),
        ("<think>\\boxed{5}</think>", None),
        ("<think>\\boxed{5}</think> \\boxed{6}", "6"),
        ("no idea", None),
        ("", None),
    ],
)
def test_the_final_answer_is_the_last_one(response, answer):
    assert final_answer(response) == answer


@pytest.mark.parametrize("data_source", REAL_FILES)
def test_every_real_gold_grades_one_through_every_template(data_source):
    pairs = []
    for gold in golds(REAL_FILES[data_source]):
        # some golds have dollars around each part, and one has an odd number of them
        body = gold.strip().replace("$", "") if gold.count("$") != gold.count(r"\$") else gold
        pairs += [(gold, template.replace("%s", body)) for template in TEMPLATES]
    wrong = [pair for pair, score in zip(pairs, grade_all(data_source, pairs), strict=True) if score != 1.0]
    assert wrong == []


def perturbed(gold: str) -> list[str]:
    """Wrong variants of a gold: each number one more or less, each sign turned, a part dropped or added."""
    variants = []
    for number in re.finditer(r"\d+", gold):
        for changed in (int(number[0]) + 1, int(number[0]) - 1):
            variants.append(f"{gold[: number.start()]}{changed}{gold[number.end() :]}")
    for operator in re.finditer(r"(?<=[\w}]) ?[+-] ?", gold):
        variants.append(gold[: operator.start()] + ("-" if "+" in operator[0] else "+") + gold[operator.end() :])
    bare = gold.strip().strip("$")
    variants.append(bare[1:] if bare.startswith("-") else f"-{bare}")
    parts = answer_text.parts(answer_text.normalise(gold))
    variants.append(", ".join([*parts, "7919"]))
    if len(parts) > 1:
        variants += [", ".join(parts[:index] + parts[index + 1 :]) for index in range(len(parts))]
        variants.append(", ".join([*parts, parts[0]]))
    return variants


# Turning the first sign of these changes nothing.
UNCHANGED = {("0", "-0"), (r"$0,-1,-\frac{3}{2}$", r"-0,-1,-\frac{3}{2}")}


@pytest.mark.parametrize("data_source", REAL_FILES)
def test_a_real_gold_with_its_first_number_changed_grades_zero(data_source):
    real = [gold for gold in golds(REAL_FILES[data_source]) if re.search(r"\d", gold)]
    pairs = [(gold, rf"\boxed{{{perturbed(gold)[0]}}}") for gold in real]
    right = [pair for pair, score in zip(pairs, grade_all(data_source, pairs), strict=True) if score != 0.0]
    assert right == []


@pytest.mark.slow
@pytest.mark.parametrize("data_source", REAL_FILES)
def test_every_perturbation_of_every_real_gold_grades_zero(data_source):
    pairs = [(gold, changed) for gold in golds(REAL_FILES[data_source]) for changed in perturbed(gold)]
    pairs = [pair for pair in pairs if pair not in UNCHANGED]
    responses = [(gold, rf"\boxed{{{changed}}}") for gold, changed in pairs]
    right = [pair for pair, score in zip(pairs, grade_all(data_source, responses), strict=True) if score != 0.0]
    assert right == []
