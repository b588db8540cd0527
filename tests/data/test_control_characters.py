"""Claims about LaTeX whose backslashes were read as escapes."""

import re

import pytest
from balanced_agg.data.control_characters import COMMANDS, restore, restore_row

ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}  # of string literals


def escaped(latex: str) -> str:
    return re.sub(r"\\([abfnrtv])", lambda match: ESCAPES[match[1]], latex)


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_each_command_that_an_escape_has_hit_is_restored_in_a_formula_or_named(command):
    written = f"Let $a = \\{command} + b$ hold."
    hit = escaped(written)
    assert hit != written
    restored, doubtful = restore(hit)
    if command in ("ne", "neg", "ni", "nu", "nexists", "nless", "nmid", "nparallel", "nprec", "nsim"):
        assert restored == hit and len(doubtful) == 1
    else:
        assert restored == written and not doubtful
    assert restore(written) == (written, [])


@pytest.mark.parametrize(
    "written",
    [
        r"\frac{1}{2}",
        r"-\tfrac12",
        r"\text{Evelyn}",
        r"5 \text{ cm}",
        r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}",
        r"\boxed{3}",
        r"\left(3, \frac{\pi}{2}\right)",
        r"\tan \theta",
        r"a \neq b",
        r"\vec{v} \times \vec{w}",
        r"\angle A = \beta^\circ",
        r"x \notin \varnothing",
        r"\langle 1, 2 \rangle",
        r"a \not\equiv b",
    ],
)
def test_a_gold_is_restored_whole_and_a_question_in_its_formulas(written):
    hit = escaped(written)
    assert hit != written
    for name in ("Answer", "final_answer", "ground_truth"):
        assert restore_row({"x": [{name: [hit]}]}) == {"x": [{name: [written]}]}
    for formula in ("${}$", r"\({}\)", r"\[ {} \]", "$$ {} $$", r"\begin{{align*}} {} \end{{align*}}"):
        question = f"Find {formula} now."
        assert restore(question.format(hit)) == (question.format(written), [])


def test_words_of_many_letters_are_restored_outside_of_a_formula_too():
    written = r"In \triangle ABC, \theta and \beta differ.\nabla"
    assert restore(escaped(written)) == (written, [])


def test_a_carriage_return_that_became_a_line_feed_is_restored_where_no_word_follows():
    assert restore("$\\left(x\night)$") == (r"$\left(x\right)$", [])
    assert restore("$x$ is at the\nangle of\nhope") == ("$x$ is at the\nangle of\nhope", [])


@pytest.mark.parametrize(
    "text",
    [
        "Case\tan apple\to eat",
        "It costs $5\tan apple costs $10",
        "First,\neq. (3) holds.\nu and v are numbers.\ni) one\nii) two",
        "the\r\nangle of\r\nrho",
        "old\rMacintosh\rtext\rm and\rn\rangle",
        "$$\nu + v = 3\n$$",
        "\\[\nu = 1\n\\]",
        "$\\begin{cases}\nu + v = 3 \\\\\nu - v = 1\n\\end{cases}$",
        "$$a,\n\nu$$",
        r"\frac{1}{2} \theta \n \t",
        "1\t2\n3\t4\n",
    ],
)
def test_real_white_space_stays(text):
    assert restore(text) == (text, [])


DOUBTFUL = [
    "x\0y",
    "\x05lambda",
    "\x0coo",
    "\x08",
    "\x1bangle",
    "$a\nu$",
    "$x +\n\to y$",
    "$a\rb +\rho$",
    "a\x7fb",
    "a\x85b",
]


@pytest.mark.parametrize("text", DOUBTFUL)
def test_what_may_have_been_a_backslash_stays_and_is_named(text):
    restored, (doubtful,) = restore(text)
    assert restored == text and re.fullmatch(r"U\+00[0-9A-F]{2} in (.*)", doubtful)[1] == repr(text)
