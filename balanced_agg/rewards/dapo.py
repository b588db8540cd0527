r"""DAPO's integer answers: what the prompt asks for as last line, "Answer: $Answer"."""

import re

from balanced_agg.rewards import answer_text
from balanced_agg.rewards.final_answer import MAX_LINE_CHARACTERS, TAIL_CHARACTERS, after_thinking, boxed

_ANSWER = re.compile(r"answer\s*\**\s*:[\s*]*([^\n]*)", re.IGNORECASE)


def stated_answer(response: str) -> str | None:
    r"""What follows the last "Answer:", up to the end of its line; or the last ``\boxed{}``, if that comes later.

    None where the response has neither, where both are empty, or where that line is longer than an answer can be.
    """
    text = after_thinking(response)[-TAIL_CHARACTERS:]
    *_, last = [None, *_ANSWER.finditer(text)]
    answer = boxed(text[last.start() :] if last else text)
    if answer is None and last:
        answer = last[1]
    answer = (answer or "").strip()
    return answer if 0 < len(answer) <= MAX_LINE_CHARACTERS else None


def same_number(gold: str, answer: str) -> bool | None:
    """Whether two number literals are the same number; None if one is not a literal, so that nothing is decided.

    Thousands separators, leading zeros, ``142.0``, dollars, units and a full stop make no difference.
    """
    values = []
    for text in (gold, answer):
        reading = answer_text.thousands_readings(answer_text.normalise(text))[0]
        literal = answer_text.read_literal(answer_text.split_units(reading)[0])
        if literal is None or literal.percent:
            return None
        values.append(literal.value)
    return values[0] == values[1]
