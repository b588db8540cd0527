"""Grade-school problems (GSM8K, GSM-Symbolic): the answer is one number; GSM8K's solutions mark it with ``####``."""

import re
from fractions import Fraction

from balanced_agg.rewards import answer_text
from balanced_agg.rewards.final_answer import MAX_LINE_CHARACTERS, TAIL_CHARACTERS, after_thinking, boxed, final_answer
from balanced_agg.rewards.maths import accepted_answers

MARK = "####"
_NUMBER = re.compile(
    r"(?<![\w.])(?P<sign>[-−]?)\s?\\?[$€£]?"
    r"(?P<digits>(?:\d{1,3}(?:,\d{3}){1,20}(?!\d)|\d{1,40})(?:\.\d{1,40})?|\.\d{1,40})"
)


def stated_number(response: str) -> Fraction | None:
    r"""The number that a response ends in, or None.

    Where there is a ``####``, the first number on the line of the last one. Else the number in the last
    ``\boxed{}`` or after the last "answer is", behind the last ``=`` therein. Else the last number of the text.
    """
    text = after_thinking(response)[-TAIL_CHARACTERS:]
    if MARK in text:
        return _value(_NUMBER.search(text.rpartition(MARK)[2].strip().partition("\n")[0]))
    answer = answer_text.normalise((final_answer(text) or "")[:MAX_LINE_CHARACTERS])
    number = _value(_NUMBER.search(answer.rpartition("=")[2]))
    if number is not None or boxed(text) is not None:
        return number
    *_, last = [None, *_NUMBER.finditer(text)]
    return _value(last)


def is_right(response: str, ground_truth: object) -> bool:
    """Whether the response ends in the number of the ground truth, a number or a solution with ``####``.

    Of several, as in `maths.accepted_answers`, any one. ValueError as there, and if one has no number.
    """
    golds = [_value(_NUMBER.search(answer.rpartition(MARK)[2])) for answer in accepted_answers(ground_truth)]
    if None in golds:
        raise ValueError(f"ground_truth must be a number, got {ground_truth!r}")
    return stated_number(response) in golds


def _value(match: re.Match | None) -> Fraction | None:
    if match is None:
        return None
    value = Fraction(match["digits"].replace(",", ""))
    return -value if match["sign"] else value
