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

EQUAL = [
    ("142.0", "142"),
    (r"864 \mbox{ inches}^2", "864"),
    (r"864 \mbox{ inches}^2", r"864\text{ square inches}"),
    (r"5.4 \text{ cents}", "5.4"),
    (r"5.4 \text{ cents}", "5.4 cents"),
    (r"336^\circ", "336"),
    ("336", r"336^\circ"),
    ("336", "336 degrees"),
    ("62.5%", "62.5"),
    ("62.5%", r"62.5\%"),
    ("62.5%", "0.625"),
    ("62.5%", r"\frac{5}{8}"),
    ("4.2", r"4.2\%"),
    (r"$8 \%$", "8"),
    (r"\frac{270}7\text{ degrees}", r"\dfrac{270}{7}"),
    (r"\frac12", "0.5"),
    (r"\frac{1}{2}", "1/2"),
    ("0.15", r"\frac{3}{20}"),
    (r"137 \frac{1}{2}", "137.5"),
    (r"0.\overline{3}", r"\frac{1}{3}"),
    (r"\frac{7}{6}", r"1.1\overline{6}"),
    (r"-.\overline{142857}", "-1/7"),
    (r"137 \frac{1}{2}", r"\frac{275}{2}"),
    (r"1\frac{4}{5}", r"\frac95"),
    (r"11,\! 111,\! 111,\! 100", "11111111100"),
    (r"11,\! 111,\! 111,\! 100", "11,111,111,100"),
    (r"\$32,\!348", "32348"),
    (r"\$32,\!348", r"\$32,348"),
    ("58,500", "58500"),
    ("58500", "58{,}500"),
    (r"\text{Evelyn}", "Evelyn"),
    (r"\text{Evelyn}", r"\textbf{Evelyn}"),
    (r"\text{(C)}", "C"),
    (r"\text{(C)}", r"\textbf{(C)}"),
    (r"\text{(C)}", "(C)"),
    (
        r"\begin{pmatrix} -1/3 \\ 2/3 \\ 5/3 \end{pmatrix}",
        r"\begin{pmatrix} -\frac{1}{3} \\ \frac{2}{3} \\ \frac{5}{3} \end{pmatrix}",
    ),
    (r"\begin{pmatrix} -1 & 0 \\ 0 & -1 \end{pmatrix}", r"\left[\begin{array}{cc}-1&0\\0&-1\end{array}\right]"),
    ("(3,4]", r"\left(3, 4\right]"),
    (r"x \in [-2,7]", "[-2,7]"),
    (r"x \in [-2,7]", r"-2 \le x \le 7"),
    ("[-2,7]", r"-2 \leq x \leq 7"),
    ("x=5", "5"),
    ("5", "x = 5"),
    ("5", "S = 2+3 = 5"),
    (r"1 \pm \sqrt{19}", r"1+\sqrt{19}, 1-\sqrt{19}"),
    (r"1 \pm \sqrt{19}", r"1-\sqrt{19} \text{ and } 1+\sqrt{19}"),
    (r"1 \pm \sqrt{19}", r"x = 1 \pm \sqrt{19}"),
    (r"\{1\pm\sqrt{5},-2\}", r"-2, 1+\sqrt5, 1-\sqrt5"),
    ("$f(x)=2 x$", "2x"),
    ("$f(x)=2 x$", "f(x)=2x"),
    ("$f(n)=n^{2}$", "f(x)=x^2"),
    ("$221,$8$", "8, 221"),
    (r"$k \geqslant 2$", r"k\ge2"),
    (r"$k \geqslant 2$", r"[2,\infty)"),
    (r"$k \geqslant 2$", r"2 \le k"),
    ("$69$,$84$", "84, 69"),
    ("$69$,$84$", r"69 \text{ and } 84"),
    ("$69$,$84$", "69 and 84"),
    ("$69$,$84$", r"\{69,84\}"),
    ("(1,2),(3,4)", "(3,4), (1,2)"),
    ("1.6e-19", r"1.6 \times 10^{-19}"),
    ("4.5e33", r"4.5\cdot10^{33}"),
    (r"6 \times 10^{13}", "6e13"),
    ("6e13", "60000000000000"),
    ("2.88e16", r"2.88 \times 10^{16} \mathrm{~Hz}"),
    (r"7.25 \; \mathrm{eV}", "7.25"),
    ("7.25", r"7.25 \; \mathrm{eV}"),
    (r"7.25 \; \mathrm{eV}", "7.25 eV"),
    ("5.47e5", "547000"),
    (r"\frac{2 \pi c^{2} R^{2}}{G}", r"2\pi c^2R^2/G"),
    ("y=2x+3", "2x-y+3=0"),
    ("y = 2x + 3", "y=3+2x"),
    ("5x - 7y + 11z + 4 = 0", "-5x+7y-11z-4=0"),
    ("(a+5)(b+2)", "ab+2a+5b+10"),
    ("6 - 5i", "-5i+6"),
    ("p - q", "-q+p"),
    (r"\cot x", r"\frac{\cos x}{\sin x}"),
    ("3R^2", "3 R^{2}"),
    ("2^{1009}", r"2\cdot2^{1008}"),
    (r"\sqrt{51}", "7.141428"),
    (r"\frac{1}{3}", "0.333333"),
    (r"\frac{1}{3}", "0.3333333"),
    (r"\frac{2}{3}", "0.666666"),
    (r"\frac{n(n+1)}{2}", r"\binom{n+1}{2}"),
    (r"\frac{3\sqrt{3}}{4}", r"\frac{3}{4}\sqrt3"),
    (r"(-\infty, 2) \cup (3, \infty)", r"(3,\infty)\cup(-\infty,2)"),
    ("52_8", "52_{8}"),
    ("(3,2)", "x=3, y=2"),
    (r"288 \pi", r"288\pi"),
    (r"-\frac{\pi}{6}", r"\frac{-\pi}{6}"),
    (r"\frac{x+1}{2}", "0.5x+0.5"),
    (r"\sqrt{3}", "3^{1/2}"),
    (r"\frac{1}{2004!}", "1/2004!"),
    (r"\log_{10} 250", r"1+2\log_{10}5+\log_{10} 1"),
    ("90", "90°"),
    ("10^{13}", "1e13"),
    ("0", "0.0"),
    ("1000", "10^3"),
    ("2", "2.00"),
    (
        r"$x_{0} \cos (\omega t)+$ $\dot{x}_{0} \sin (\omega t) / \omega$",
        r"\frac{\dot{x}_0}{\omega}\sin(\omega t)+x_0\cos(\omega t)",
    ),
    (r"I(0) e^{-\frac{t}{R C}}", "I(0)e^{-t/(RC)}"),
    (r"I(0) e^{-\frac{t}{R C}}", r"I(0)\exp\left(-\frac{t}{RC}\right)"),
    (r"1 - \frac{1}{e}", "1-e^{-1}"),
    (r"\arcsin{1.3 \sin{\theta_w}}", r"\sin^{-1}(1.3\sin\theta_w)"),
    ("3", r"3\text{ hours}"),
    (r"\$18.90", "18.9"),
    (r"x \in [-2,7]", r"x\in[-2, 7]"),
    ("12", r"12 \, \text{m/s}"),
    ("12", "12 m/s"),
    ("12", "12 cm^2"),
    ("4", "4 hours"),
    (r"(-\sqrt{3}, \sqrt{3})", r"-\sqrt3 < x < \sqrt3"),
    (r"\frac{\sqrt{21}}{5}", r"\sqrt{21}/5"),
    ("2k", "2 k"),
    (
        r"\left[I(0)-\frac{V_{0}}{R}\right] e^{-\frac{t}{R C}}+\frac{V_{0}}{R}",
        r"\frac{V_0}{R}+\left(I(0)-\frac{V_0}{R}\right)e^{-t/RC}",
    ),
    (r"\frac{1}{4}", ".25"),
    ("E=mc^2", "mc^2"),
    (r"\theta = \frac{\pi}{4}", r"\pi/4"),
    ("3", "+3"),
    ("1,-2", "x=1, x=-2"),
    ("1,-2", "x = 1 or x = -2"),
    ("1,-2", r"x=-2 \text{ or } x=1"),
    (r"\sqrt{10}", r"\sqrt{2}\sqrt{5}"),
    ("3.5", "3 1/2"),
    (r"\frac{1}{2}", r"\mathbf{\frac{1}{2}}"),
    ("5.3", r"\approx 5.3"),
    ("6000000", r"6\,000\,000"),
    (r"\frac{\sqrt{2}}{2}", r"\frac{1}{\sqrt{2}}"),
    (r"1.2 \times 10^{5} \mathrm{~K}", "1.2e5"),
    (r"4.5 \times 10^{33} \text{ erg s}^{-1}", "4.5e33"),
    (r"A = \begin{pmatrix} 1 & 2 \end{pmatrix}", r"\begin{bmatrix} 1 & 2 \end{bmatrix}"),
    ("025", "25"),
    ("a=1, b=2", "b=2, a=1"),
    ("$t(0,4]$", "(0,4]"),
    ("I^2 R", "R I^{2}"),
    (r"\frac{E}{2}", "0.5E"),
]

UNEQUAL = [
    ("52_8", "52"),
    ("52_8", "52_9"),
    (r"1 \pm \sqrt{19}", r"1+\sqrt{19}"),
    ("1.6e-19", "2.6e-19"),
    ("0.0000001", "0.0000002"),
    (r"\frac{1}{2004!}", r"\frac{1}{2006!}"),
    (r"\frac{1}{2^{99}}", r"\frac{1}{2^{98}}"),
    ("n=2,3,4", "n=1,2,3"),
    ("D=(0,1)", "D=(0,1.5)"),
    ("19, 46, 82", "21, 36, 82"),
    (r"1-\frac{1}{\mathrm{e}}", r"1+\frac{1}{\mathrm{e}}"),
    (r"\pm 2021", "2021"),
    ("12:00", "1:00"),
    ("(3,2)", "(2,3)"),
    ("[1,2]", "(1,2)"),
    ("(1,2]", "[1,2)"),
    ("x=5", "y=5"),
    ("R^2", "r^2"),
    (r"\frac{R}{r}", r"\frac{r}{R}"),
    (r"\frac{R}{r}", "1"),
    ("2 R r", "2R^2"),
    (r"\text{even}", r"\text{odd}"),
    (r"\text{(C)}", "(D)"),
    ("62.5%", "0.00625"),
    (r"62.5\%", r"0.625\%"),
    ("5.47e5", "547001"),
    ("0.15", "0.150001"),
    (r"\frac{1}{3}", "0.333"),
    (r"\sqrt{2}", "1.41"),
    ("$69$,$84$", "69"),
    ("$69$,$84$", "69,84,1"),
    ("f(n)=n, g(n)=1", "f(n)=1, g(n)=n"),
    (r"k \ge 2", "k > 2"),
    (r"k \ge 2", r"k \le 2"),
    (r"k \ge 2", "k=2"),
    ("k=2", r"k \ge 2"),
    ("2", r"k \ge 2"),
    ("y=2x+3", "y=2x-3"),
    ("y=2x+3", "2x-y-3=0"),
    ("5x - 7y + 11z + 4 = 0", "5x - 7y + 11z - 4 = 0"),
    (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", r"\begin{pmatrix} 2 \\ 1 \end{pmatrix}"),
    (r"2021 \cdot 505 \cdot 337", "343965886"),
    ("1,2", "(1,2)"),
    ("3", "3,3"),
    ("5", "5x"),
    ("5x", "5"),
    ("12", "12, 13"),
    ("1", "e"),
    ("", "5"),
    ("5", ""),
    ("x", "x^1+0.0000001"),
    ("2^{1009}", "2^{1009}+1"),
    ("(1,2),(3,4)", "(2,1),(3,4)"),
    ("(1,2),(3,4)", "1,2,3,4"),
    ("2k", "2n"),
    (r"1, 2, \ldots, n", r"1, 3, 5, \ldots, 2n-1"),
    (r"\frac{2^{2005}+1}{3 \cdot 2^{2006}}", r"\frac{1}{3\cdot 2^{2006}}"),
    ("I(0)", "I(1)"),
    (r"\sin x", r"\cos x"),
    (r"\infty", r"-\infty"),
    (r"\begin{pmatrix} 1 & 2 \end{pmatrix}", r"\begin{vmatrix} 1 & 2 \end{vmatrix}"),
    ("3.5", "31/2"),
    ("6 m", "6"),
    ("I^2 R", "-R"),
    (r"\frac{E}{2}", r"\frac{e}{2}"),
    ("f(2)", "2f"),
    ("I(0)+1", "1"),
    ("a=1, b=2", "a=2, b=1"),
    (r"864 \mbox{ inches}^2", r"864 \mbox{ inches}^3"),
    (r"\lfloor\sqrt{n-1}\rfloor", r"\lfloor\sqrt{n+1}\rfloor"),
]

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


@pytest.mark.parametrize(("gold", "answer"), EQUAL)
def test_the_same_answer_in_another_notation_is_equal(gold, answer):
    assert answers_equal(gold, answer)


@pytest.mark.parametrize(("gold", "answer"), UNEQUAL)
def test_a_different_answer_is_not_equal(gold, answer):
    assert not answers_equal(gold, answer)


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
        (r"\boxed{\boxed{5}}", "5"),
        (r"\boxed{ \{1, 2\} }", r"\{1, 2\}"),
        (r"$\boxed 5$", "5"),
        (r"\boxed{5} so it is \boxed{7", None),
        (r"\boxed{5}, no: \boxed{}", None),
        ("The answer is 5, wait.\nThe answer is 6.", "6"),
        ("The answer is:\n$$\\frac{1}{2}$$", "$$\\frac{1}{2}$$"),
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
