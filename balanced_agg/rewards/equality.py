r"""Whether two answers are equal.

One rule: what the exact comparison can tell, it decides; where it cannot tell, math-verify decides, unless a veto
refutes it. The exact comparison reads structure (lists, tuples, intervals, unions, matrices, named values, units) and
number literals, and compares single expressions at points. math-verify alone accepts wrong answers, too, for lists,
small numbers and equations (huggingface/Math-Verify issues 14 and 21: ``n=2,3,4`` for ``n=1,2,3``, ``1/2^{99}`` for
``1/2^{98}``, rounding to six decimals).

Nothing here bounds its own time or memory: call it in a grader process.
"""

import re
from collections.abc import Callable, Iterable
from fractions import Fraction

import sympy
from math_verify import parse, verify
from sympy import Expr
from sympy.core.relational import Relational

from balanced_agg.rewards import answer_text
from balanced_agg.rewards.answer_text import Literal, split_outside_brackets, squeeze
from balanced_agg.rewards.quantities import split_unit, units_differ
from balanced_agg.rewards.statements import (
    NAME,
    RELATION,
    intervals,
    named,
    same_arguments,
    values_listed,
    with_arguments_of,
)
from balanced_agg.rewards.values import UNREADABLE, number, parsed_pair, same_function, same_relation

# The longest gold of the benchmarks has some 300. Longer texts are compared as they are.
MAX_CHARACTERS = 2_000
# A decimal is taken for an irrational or repeating number that it rounds from this many significant digits on.
# math-verify compares six decimals.
MIN_ROUNDED_DIGITS = 6
# What no single expression equals
_MANY = (sympy.Tuple, sympy.Interval, sympy.Union)
# How far what stands behind \approx may be from what stands before it
ROUGHLY = 0.05

_BASED_NUMBER = re.compile(r"[0-9A-Z.]+_(?:\d+|\{\d+\}|\{\\text\{.*\}\})")
_BASES = ["two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
_APPROXIMATELY = r"\\(?:approx|simeq|doteq|cong)(?![A-Za-z])"
_WORDS = re.compile(r"\\text\{[^{}]*[A-Za-z]{2}[^{}]*\}|(?<![A-Za-z\\])[A-Za-z]{4,}")
_IMPLICATION = re.compile(r"\\(?:Rightarrow|implies|to|rightarrow|therefore|because)(?![A-Za-z])")
_NUMBERS_SIDE_BY_SIDE = re.compile(r"(?<![_^\d])\d+\s+\d")


def answers_equal(gold: str, answer: str, relative_tolerance: float = 0.0) -> bool:
    r"""Whether `answer` states what `gold` states. Both are raw text: LaTeX with or without dollars, or plain.

    Lists are compared without regard to order and part by part, each part exactly once; tuples, intervals and
    matrices entry by entry. A unit after a number, a name before ``=`` and percent signs may be left out on either
    side. A decimal equals a fraction if it does so exactly, or rounds or cuts it at MIN_ROUNDED_DIGITS or more.
    `relative_tolerance` applies to golds written as a decimal or with an exponent, against anything but an integer.
    """
    if gold == answer or max(len(gold), len(answer)) > MAX_CHARACTERS:
        return bool(gold.strip()) and squeeze(gold) == squeeze(answer)
    normal_gold, normal_answer = (_without_approximation(answer_text.normalise(text)) for text in (gold, answer))
    if not normal_gold or not normal_answer:
        return False
    verdict = _any(
        _compare(gold_reading, answer_reading, relative_tolerance)
        for gold_reading in answer_text.thousands_readings(normal_gold)
        for answer_reading in answer_text.thousands_readings(normal_answer)
    )
    if verdict is None:
        vetoed = any(veto(normal_gold, normal_answer) for veto in VETOES)
        return not vetoed and _math_verify_accepts(gold, answer)
    return verdict


def _math_verify_accepts(gold: str, answer: str) -> bool:
    in_dollars = gold if "$" in gold else f"${gold}$"
    try:
        readings = [parse(text, parsing_timeout=None) for text in (in_dollars, rf"\boxed{{{answer}}}")]
        return verify(*readings, timeout_seconds=None)
    except UNREADABLE:
        return False


# What math-verify accepts in spite of it. Each takes gold and answer, normalised.


def _equation_for_a_value(gold: str, answer: str) -> bool:
    """7 is not x^2=7."""
    return any(
        len(split_outside_brackets(one, "=")) > 1 and not named(one)[0] and not RELATION.search(other)
        for one, other in ((gold, answer), (answer, gold))
    )


def _other_words(gold: str, answer: str) -> bool:
    r"""5 is not ``5 \text{ is wrong}``: words that are neither a unit nor in the gold."""
    known = squeeze(gold).lower()
    return any(squeeze(word).lower() not in known for word in _WORDS.findall(split_unit(answer)[0]))


def _two_numbers(gold: str, answer: str) -> bool:
    """123 is not 1 2 3."""
    return any(_NUMBERS_SIDE_BY_SIDE.search(text) for text in (gold, answer))


def _ellipsis(gold: str, answer: str) -> bool:
    r"""Of ``1, 2, \ldots, n`` math-verify compares the parts that are written out."""
    return any(re.search(r"\\[lcd]?dots|\.\.\.", text) for text in (gold, answer))


def _derivation(gold: str, answer: str) -> bool:
    r"""``x=5 \Rightarrow y=7`` is two statements, of which math-verify takes one."""
    return any(_IMPLICATION.search(text) or re.search(_APPROXIMATELY, text) for text in (gold, answer))


def _sign_before_brackets(gold: str, answer: str) -> bool:
    """(1,2) is not -(1,2)."""
    pairs = ((gold, answer), (answer, gold))
    return any(one.startswith("-(") and "," in one and not other.startswith("-") for one, other in pairs)


VETOES = (_equation_for_a_value, _other_words, _two_numbers, _ellipsis, _derivation, _sign_before_brackets)


# The exact comparison. True: equal. False: different. None: it cannot tell.


def _any(verdicts: Iterable[bool | None]) -> bool | None:
    unknown = False
    for verdict in verdicts:
        if verdict:
            return True
        unknown = unknown or verdict is None
    return None if unknown else False


def _all(verdicts: Iterable[bool | None]) -> bool | None:
    unknown = False
    for verdict in verdicts:
        if verdict is False:
            return False
        unknown = unknown or verdict is None
    return None if unknown else True


def _compare(gold: str, answer: str, tolerance: float) -> bool | None:
    if _bare(gold) == _bare(answer):
        return True
    if (gold_set := intervals(gold)) and (answer_set := intervals(answer)):
        (gold_name, golds), (answer_name, answers) = gold_set, answer_set
        if gold_name and answer_name and squeeze(gold_name) != squeeze(answer_name):
            return False
        return _compare_in_any_order(golds, answers, tolerance, _compare_values)
    gold_parts, answer_parts = (values_listed(text) for text in (gold, answer))
    if len(gold_parts) == len(answer_parts) == 1:
        return _compare_parts(gold_parts[0], answer_parts[0], tolerance)
    # the coordinates of a point, given one by one; x=1 or x=2 are two values of one
    one_by_one = not answer_text.enclosed(answer) and r"\lor" not in answer
    if len(gold_parts) == 1 and (coordinates := _coordinates(gold)) and one_by_one:
        return _compare_in_order(coordinates, answer_parts, tolerance)
    if len(answer_parts) == 1 and (coordinates := _coordinates(answer)) and all(named(part)[0] for part in gold_parts):
        return _compare_in_order(gold_parts, coordinates, tolerance)
    return _compare_in_any_order(gold_parts, answer_parts, tolerance)


def _bare(text: str) -> str:
    return squeeze(re.sub(r"\\text\{([^{}]*)\}", r" \1 ", text))


def _coordinates(text: str) -> list[str]:
    brackets = answer_text.enclosed(named(text)[1])
    return split_outside_brackets(brackets[1], ",") if brackets and brackets[0] + brackets[2] == "()" else []


def _compare_in_order(golds: list[str], answers: list[str], tolerance: float) -> bool | None:
    if len(golds) != len(answers):
        return False
    return _all(_compare(gold, answer, tolerance) for gold, answer in zip(golds, answers, strict=True))


def _compare_in_any_order(
    golds: list[str], answers: list[str], tolerance: float, compare: Callable[[str, str, float], bool | None] = _compare
) -> bool | None:
    """Each gold has its own answer and none is left over. Equality is transitive, so that the first match will do."""
    if len(golds) != len(answers):
        return False
    others, left = [], list(answers)
    for gold in golds:
        match = next((answer for answer in left if compare(gold, answer, tolerance)), None)
        if match is None:
            others.append(gold)
        else:
            left.remove(match)
    return _all(_any(compare(gold, answer, tolerance) for answer in left) for gold in others)


def _compare_parts(gold: str, answer: str, tolerance: float) -> bool | None:
    gold_name, gold_value = named(gold)
    answer_name, answer_value = named(answer)
    if gold_name and answer_name:
        if squeeze(gold_name["name"]) == squeeze(answer_name["name"]):
            if not same_arguments(gold_name, answer_name):
                return False
            return _compare(gold_value, with_arguments_of(gold_name, answer_name, answer_value), tolerance)
        # y=2x+3 and x=(y-3)/2 may be one line
        crossed = gold_name["name"] in answer_value or answer_name["name"] in gold_value
        return None if crossed else False
    if (gold_name and not RELATION.search(answer_value)) or (answer_name and not RELATION.search(gold_value)):
        return _compare(gold_value, answer_value, tolerance)
    return _compare_values(
        *((gold_value, answer_value) if not (gold_name or answer_name) else (gold, answer)), tolerance
    )


def _compare_values(gold: str, answer: str, tolerance: float) -> bool | None:
    if gold.startswith(r"\text") or answer.startswith(r"\text"):
        return (_words(gold) == _words(answer)) if _words(gold) and _words(answer) else None
    gold, gold_unit = split_unit(gold)
    answer, answer_unit = split_unit(answer, letters=not re.search("[A-Za-z]", gold))
    if units_differ(gold_unit, answer_unit):
        return False
    if _BASED_NUMBER.fullmatch(squeeze(gold)) or _BASED_NUMBER.fullmatch(squeeze(answer)):
        return _based(gold) == _based(answer)
    gold_literal, answer_literal = answer_text.read_literal(gold), answer_text.read_literal(answer)
    if gold_literal and answer_literal:
        return _equal_literals(gold_literal, answer_literal, tolerance)
    gold_rows, answer_rows = answer_text.matrix(gold), answer_text.matrix(answer)
    if gold_rows and answer_rows:
        if len(gold_rows) != len(answer_rows):
            return False
        return _all(_compare_in_order(*rows, tolerance) for rows in zip(gold_rows, answer_rows, strict=True))
    gold_brackets, answer_brackets = answer_text.enclosed(gold), answer_text.enclosed(answer)
    lists = [
        split_outside_brackets(brackets[1], ",") if brackets else [] for brackets in (gold_brackets, answer_brackets)
    ]
    if gold_brackets and answer_brackets and max(map(len, lists)) > 1:
        return gold_brackets[::2] == answer_brackets[::2] and _compare_in_order(*lists, tolerance)
    if (len(lists[0]) > 1 and answer_literal) or (len(lists[1]) > 1 and gold_literal):
        return False
    return _compare_expressions(gold, answer, gold_literal, answer_literal, tolerance)


def _based(number: str) -> str:
    for base, word in enumerate(_BASES, start=2):
        number = re.sub(rf"_\{{\\text\{{\s*{word}\s*\}}\}}", f"_{base}", number)
    return re.sub(r"[\s{}()]", "", number)


def _words(answer: str) -> str:
    r"""The letters of a verbal answer, in lower case: ``\text{(C)}``, (C) and C are all "c". "" for anything else."""
    match = re.fullmatch(r"\(?(?:\\text\{)?\s*\(?([A-Za-z][A-Za-z\s.'-]*)\)?\s*\}?\)?", answer)
    return re.sub(r"[^a-z]", "", match[1].lower()) if match else ""


def _equal_literals(gold: Literal, answer: Literal, tolerance: float) -> bool:
    """Exact equality, but for percent signs, which may be left out, and what `_approximates` allows."""
    shares = [literal.value / 100 if literal.percent else literal.value for literal in (gold, answer)]
    if gold.value == answer.value or shares[0] == shares[1]:
        return True
    if gold.unit is None and answer.unit is not None:
        return gold.value.denominator > 1 and _approximates(answer, gold.value)
    if gold.unit is not None and answer.unit is None:
        return answer.value.denominator > 1 and _approximates(gold, answer.value, tolerance)
    return gold.unit is not None and abs(gold.value - answer.value) <= Fraction(tolerance) * abs(gold.value)


def _approximates(decimal: Literal, value: Fraction, tolerance: float = 0.0) -> bool:
    """Whether `decimal` is `value` rounded or cut at its last digit, or within the relative tolerance of it."""
    error = abs(value - decimal.value)
    rounded = 2 * error <= decimal.unit
    cut = error < decimal.unit and abs(decimal.value) < abs(value)
    precise = decimal.digits >= MIN_ROUNDED_DIGITS
    return (precise and (rounded or cut)) or error <= Fraction(tolerance) * abs(decimal.value)


def _compare_expressions(
    gold: str, answer: str, gold_literal: Literal | None, answer_literal: Literal | None, tolerance: float
) -> bool | None:
    if any(veto(gold, answer) for veto in VETOES):
        return None
    left, right = parsed_pair(gold, answer)
    left = sympy.Rational(gold_literal.value) if gold_literal else left
    right = sympy.Rational(answer_literal.value) if answer_literal else right
    try:
        return _compare_parsed(left, right, gold_literal, answer_literal, tolerance)
    except UNREADABLE:
        return None


def _compare_parsed(
    left: sympy.Basic | None,
    right: sympy.Basic | None,
    gold_literal: Literal | None,
    answer_literal: Literal | None,
    tolerance: float,
) -> bool | None:
    if isinstance(left, Relational) and isinstance(right, Relational):
        return same_relation(left, right)
    if not (isinstance(left, Expr) and isinstance(right, Expr)):
        kinds = {isinstance(reading, Expr) - isinstance(reading, _MANY) for reading in (left, right)}
        return False if kinds == {1, -1} else None
    same = same_function(left, right)
    decimal, expression = (gold_literal, right) if gold_literal else (answer_literal, left)
    if same or not decimal or not decimal.unit:
        return same
    value = number(expression)
    if value is None:
        return same
    return _approximates(decimal, Fraction(str(value)), tolerance if gold_literal else 0.0)


def _without_approximation(text: str) -> str:
    r"""``x \approx 5.3`` names 5.3; of ``\frac{1}{3} \approx .333`` the exact part is the answer, if the two agree."""
    exact, *others = split_outside_brackets(text, _APPROXIMATELY)
    if len(others) != 1:
        return text
    if not exact:
        return others[0]
    if NAME.fullmatch(exact):
        return f"{exact} = {others[0]}"
    literal = answer_text.read_literal(split_unit(others[0])[0])
    if literal is None:
        return text
    left, _ = parsed_pair(split_unit(named(exact)[1])[0], "0")
    try:
        value = number(left) if isinstance(left, Expr) else None
    except UNREADABLE:
        return text
    if value is not None and abs(value - sympy.Rational(literal.value)) > ROUGHLY * abs(value):
        return text
    return exact
