"""Grade-school problems (GSM8K, GSM-Symbolic): the answer is one number; GSM8K's solutions mark it with ``####``."""

import re
from fractions import Fraction
from functools import lru_cache

from balanced_agg.rewards.answer_text import normalise, read_literal, thousands_readings
from balanced_agg.rewards.final_answer import MAX_LINE_CHARACTERS, TAIL_CHARACTERS, after_thinking, boxed, final_answer
from balanced_agg.rewards.maths import accepted_answers
from balanced_agg.rewards.quantities import split_unit

MARK = "####"
_NUMBER = re.compile(
    r"(?<![\w.])(?P<sign>[-−]?)\s?\\?[$€£]?"
    r"(?P<digits>(?:\d{1,3}(?:,\d{3}){1,20}(?!\d)|\d{1,40})(?:\.\d{1,40})?|\.\d{1,40})(?:/(?P<bottom>\d{1,40}))?"
)
# What makes a number a part of another one
_OPERATOR = r"\s*(?:[*/^+]|[-,;]\s*[\d.]|\\(?:frac|times|cdot|div|sqrt|binom)|e\d)"


def stated_number(response: str) -> Fraction | None:
    r"""The number that a response ends in, or None.

    Where there is a ``####``, that on the line of the last one. Else that in the last ``\boxed{}`` or after the last
    "answer is". Else the last number of the text.
    """
    text = after_thinking(response)[-TAIL_CHARACTERS:]
    if MARK in text:
        return number_in(text.rpartition(MARK)[2].strip().partition("\n")[0])
    number = number_in(final_answer(text) or "")
    if number is not None or boxed(text) is not None:
        return number
    *_, last = [None, *_NUMBER.finditer(text)]
    return _value(last)


def is_right(response: str, ground_truth: object) -> bool:
    """Whether the response ends in the number of the ground truth, a number or a solution with ``####``.

    Of several, as in `maths.accepted_answers`, any one. ValueError as there, and if one has no number.
    """
    golds = [number_in(answer.rpartition(MARK)[2]) for answer in accepted_answers(ground_truth)]
    if None in golds:
        raise ValueError(f"ground_truth must be a number, got {ground_truth!r}")
    return stated_number(response) in golds


@lru_cache(maxsize=1024)  # a gold comes once for each response
def number_in(text: str) -> Fraction | None:
    r"""The number literal that `text` is, behind its last ``=`` and with or without a unit; else the first among words.

    None where there is none, and where it is only a part of an expression: 5*4 is neither 5 nor 4.
    """
    if plain := _NUMBER.fullmatch(text.strip()):
        return _value(plain)
    text = text[:MAX_LINE_CHARACTERS]
    text = thousands_readings(normalise((boxed(text) or text).rpartition("=")[2]))[0]
    literal = read_literal(split_unit(text)[0])
    if literal is not None:
        return literal.value
    match = _NUMBER.search(text)
    if (
        match is None
        or re.match(_OPERATOR, text[match.end() :])
        or re.search(r"(?:[*/^+{]|\d ?-) *$", text[: match.start()])
    ):
        return None
    return _value(match)


def _value(match: re.Match | None) -> Fraction | None:
    if match is None or (match["bottom"] and not int(match["bottom"])):
        return None
    value = Fraction(match["digits"].replace(",", "")) / int(match["bottom"] or 1)
    return -value if match["sign"] else value
