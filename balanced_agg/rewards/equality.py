r"""Whether two answers are equal.

The structure of an answer (list, tuple, interval, union, matrix, named value) and number literals are compared
here, exactly; single expressions are parsed by math-verify. Its ``verify`` is trusted only with sets and relations:
for lists, small numbers and equations it also accepts wrong answers (huggingface/Math-Verify issues 14 and 21:
``n=2,3,4`` for ``n=1,2,3``, ``1/2^{99}`` for ``1/2^{98}``, rounding to six decimals), so that expressions are
compared by evaluation at several points instead.

Nothing here bounds its own time or memory: call it in a grader process.
"""

import random
import re
from collections.abc import Iterator
from fractions import Fraction
from functools import lru_cache

import sympy
from latex2sympy2_extended import NormalizationConfig
from math_verify import LatexExtractionConfig, parse, verify
from sympy import Expr
from sympy.core.function import AppliedUndef
from sympy.core.relational import Relational

from balanced_agg.rewards import answer_text
from balanced_agg.rewards.answer_text import Literal

# The longest gold of the benchmarks has some 300. Longer texts are compared as they are.
MAX_CHARACTERS = 2_000
# A decimal is taken for an irrational or repeating number that it rounds from this many significant digits on.
# math-verify compares six decimals.
MIN_ROUNDED_DIGITS = 6

_NAME = re.compile(
    r"(?P<name>(?:\\angle\s*)?(?:\\text\{[^{}]*\}|\\?[A-Za-z]+|\\?[A-Za-z]+\{[A-Za-z]\}|[A-Z ]+)[ ']*"
    r"(?:_(?:[A-Za-z0-9]|\{[^{}]*\}|\\[A-Za-z]+))?'*)\s*"
    r"(?:\(\s*(?P<arguments>[A-Za-z0-9, ]+)\s*\))?\s*(?:=|\\in(?![A-Za-z]))\s*"
)
_RELATION = re.compile(r"[<>]|\\[lg]e(?![A-Za-z])|\\[lg]t(?![A-Za-z])|=")
_BASED_NUMBER = re.compile(r"[0-9A-Z]+_(?:\d|\{\d+\}|\{\\text\{.*\}\})")
# math-verify's own idea of units takes the variable of 6m for metres
_EXTRACTION = LatexExtractionConfig(
    normalization_config=NormalizationConfig(
        basic_latex=True, units=False, malformed_operators=True, nits=True, boxed="none"
    )
)
ROUNDING = (sympy.floor, sympy.ceiling)
# of values that are computed to 30 digits
RELATIVE_NOISE = sympy.Float("1e-20", 30)


def answers_equal(gold: str, answer: str, relative_tolerance: float = 0.0) -> bool:
    r"""Whether `answer` states what `gold` states. Both are raw text: LaTeX with or without dollars, or plain.

    Lists are compared without regard to order and part by part, each part exactly once; tuples, intervals and
    matrices entry by entry. Units after a number, a name before ``=`` and percent signs may be left out on either
    side. A decimal equals a fraction if it does so exactly, or rounds or cuts it at MIN_ROUNDED_DIGITS or more.
    `relative_tolerance` applies to golds written as a decimal or with an exponent, against anything but an integer.
    """
    if max(len(gold), len(answer)) > MAX_CHARACTERS:
        return answer_text.squeeze(gold) == answer_text.squeeze(answer)
    gold, answer = answer_text.normalise(gold), answer_text.normalise(answer)
    if not gold or not answer:
        return False
    return any(
        _equal(gold_reading, answer_reading, relative_tolerance)
        for gold_reading in answer_text.thousands_readings(gold)
        for answer_reading in answer_text.thousands_readings(answer)
    )


def _equal(gold: str, answer: str, tolerance: float) -> bool:
    if answer_text.squeeze(gold) == answer_text.squeeze(answer):
        return True
    gold_parts, answer_parts = answer_text.parts(gold), answer_text.parts(answer)
    if len(gold_parts) == len(answer_parts) == 1:
        return _equal_parts(gold_parts[0], answer_parts[0], tolerance)
    gold_tuple = answer_text.enclosed(gold)
    if len(gold_parts) == 1 and gold_tuple and gold_tuple[0] + gold_tuple[2] == "()":
        # the coordinates of a point, given one by one
        return _equal_in_order(answer_text.split_outside_brackets(gold_tuple[1], ","), answer_parts, tolerance)
    return _equal_in_any_order(gold_parts, answer_parts, tolerance)


def _equal_in_order(golds: list[str], answers: list[str], tolerance: float) -> bool:
    return len(golds) == len(answers) and all(
        _equal(gold, answer, tolerance) for gold, answer in zip(golds, answers, strict=True)
    )


def _equal_in_any_order(golds: list[str], answers: list[str], tolerance: float) -> bool:
    """Each gold has its own answer and none is left over. Equality is transitive, so that the first match will do."""
    if len(golds) != len(answers):
        return False
    remaining = list(answers)
    for gold in golds:
        match = next((answer for answer in remaining if _equal(gold, answer, tolerance)), None)
        if match is None:
            return False
        remaining.remove(match)
    return True


def _equal_parts(gold: str, answer: str, tolerance: float) -> bool:
    gold_name, gold_value = _named(gold)
    answer_name, answer_value = _named(answer)
    if gold_name and answer_name and answer_text.squeeze(gold_name["name"]) == answer_text.squeeze(answer_name["name"]):
        return _equal(gold_value, _with_arguments_of(gold_name, answer_name, answer_value), tolerance)
    if gold_name and not _RELATION.search(answer):
        return _equal(gold_value, answer, tolerance)
    if answer_name and not _RELATION.search(gold):
        return _equal(gold, answer_value, tolerance)
    return _equal_values(gold, answer, tolerance)


def _named(text: str) -> tuple[re.Match | None, str]:
    r"""``x = 5`` as (match of ``x =``, "5"). A chain ends in its value: ``S = 2 + 3 = 5``. (None, text) if nameless."""
    match = _NAME.match(text)
    if match is None:
        return None, text
    return match, answer_text.split_outside_brackets(text[match.end() :], "(?<![<>!])=")[-1]


def _with_arguments_of(gold: re.Match, answer: re.Match, value: str) -> str:
    """`value` of the function that the answer names, written in the argument of the gold: f(n) = n^2 for f(x) = x^2."""
    old, new = answer_text.squeeze(answer["arguments"] or ""), answer_text.squeeze(gold["arguments"] or "")
    if old == new or not (len(old) == len(new) == 1):
        return value
    return re.sub(r"\\[A-Za-z]+|[A-Za-z]", lambda letter: new if letter.group() == old else letter.group(), value)


def _equal_values(gold: str, answer: str, tolerance: float) -> bool:
    if gold.startswith(r"\text") or answer.startswith(r"\text"):
        return bool(_words(gold)) and _words(gold) == _words(answer)
    gold, gold_powers = answer_text.split_units(gold)
    answer, answer_powers = answer_text.split_units(answer)
    if gold_powers and answer_powers and gold_powers != answer_powers:
        return False
    if _BASED_NUMBER.fullmatch(answer_text.squeeze(gold)) or _BASED_NUMBER.fullmatch(answer_text.squeeze(answer)):
        return re.sub(r"[\s{}]", "", gold) == re.sub(r"[\s{}]", "", answer)
    gold_literal, answer_literal = answer_text.read_literal(gold), answer_text.read_literal(answer)
    if gold_literal and answer_literal:
        return _equal_literals(gold_literal, answer_literal, tolerance)

    golds, answers = (answer_text.split_outside_brackets(text, r"\\cup(?![A-Za-z])") for text in (gold, answer))
    if len(golds) > 1 and len(answers) > 1:
        return _equal_in_any_order(golds, answers, tolerance)
    gold_rows, answer_rows = answer_text.matrix(gold), answer_text.matrix(answer)
    if gold_rows and answer_rows:
        return len(gold_rows) == len(answer_rows) and all(
            _equal_in_order(*rows, tolerance) for rows in zip(gold_rows, answer_rows, strict=True)
        )
    gold_brackets, answer_brackets = answer_text.enclosed(gold), answer_text.enclosed(answer)
    if gold_brackets and answer_brackets:
        golds, answers = (answer_text.split_outside_brackets(b[1], ",") for b in (gold_brackets, answer_brackets))
        if len(golds) > 1 or len(answers) > 1:
            same_kind = gold_brackets[::2] == answer_brackets[::2]
            return same_kind and _equal_in_order(golds, answers, tolerance)
    return _equal_expressions(gold, answer, gold_literal, answer_literal, tolerance)


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


def _equal_expressions(
    gold: str, answer: str, gold_literal: Literal | None, answer_literal: Literal | None, tolerance: float
) -> bool:
    gold, answer = _with_distinct_letters(gold, answer)
    left = sympy.Rational(gold_literal.value) if gold_literal else _parsed(gold)
    right = sympy.Rational(answer_literal.value) if answer_literal else _parsed(answer)
    if left is None or right is None:
        return False
    if isinstance(left, Relational) and isinstance(right, Relational):
        return _equal_relations(left, right)
    if not (isinstance(left, Expr) and isinstance(right, Expr)):
        return verify(left, right, timeout_seconds=None, allow_set_relation_comp=True)
    if _equal_functions(left, right):
        return True
    decimal, expression = (gold_literal, right) if gold_literal else (answer_literal, left)
    if not decimal or not decimal.unit or expression.free_symbols:
        return False
    value = sympy.N(expression.doit(), 50)
    return value.is_Float and _approximates(decimal, Fraction(str(value)), tolerance if gold_literal else 0.0)


def _with_distinct_letters(*texts: str) -> list[str]:
    """The same texts with upper-case letters renamed where math-verify, which takes R for r, would confuse them."""
    letters = set(re.findall(r"(?<![A-Za-z])[A-Za-z]", re.sub(r"\\[A-Za-z]+", " ", " ".join(texts))))
    confused = sorted(letter for letter in letters if letter.isupper() and letter.lower() in {*letters, "e", "i"})
    spare = [letter for letter in "zwvuqpbhjlsdacnmkrtxy" if letter not in letters and letter.upper() not in letters]
    renamed = dict(zip(confused, spare, strict=False))
    pattern = re.compile(r"\\[A-Za-z]+|[A-Z]")
    return [pattern.sub(lambda letter: renamed.get(letter.group(), letter.group()), text) for text in texts]


@lru_cache(maxsize=256)
def _parsed(text: str) -> sympy.Basic | None:
    """The expression that math-verify reads in `text`, or None."""
    found = parse(f"${text}$", [_EXTRACTION], "no_fallback", extraction_mode="first_match", parsing_timeout=None)
    return found[0] if found else None


def _values_at_points(*expressions: Expr) -> Iterator[list[Expr]]:
    """Values of the expressions at seeded points where all of them are finite: exact if rational, else to 30 digits.

    Symbols of one name are one variable; i and e are the constants. Points are positive rationals,
    but consecutive integers where a factorial, a binomial coefficient or rounding needs them.
    """
    expressions = tuple(
        expression.xreplace({number: sympy.Rational(str(number)) for number in expression.atoms(sympy.Float)})
        for expression in expressions
    )
    discrete = any(expression.has(sympy.factorial, sympy.binomial, *ROUNDING) for expression in expressions)
    points = 48 if any(expression.has(*ROUNDING) for expression in expressions) else 12
    unknowns = [expression.free_symbols | expression.atoms(AppliedUndef) for expression in expressions]
    atoms = sorted(set().union(*unknowns), key=str)
    rng = random.Random(0)
    for index in range(points if atoms else 1):
        values = {"i": sympy.I, "e": sympy.E}
        for atom in atoms:
            rational = sympy.Rational(rng.randint(20, 200), 97)
            values.setdefault(str(atom), sympy.Integer(3 + index + rng.randint(0, 7)) if discrete else rational)
        found = [expression.xreplace({atom: values[str(atom)] for atom in atoms}).doit() for expression in expressions]
        found = [value if value.is_Rational else sympy.N(value, 30) for value in found]
        if all(value.is_number and value.is_finite for value in found):
            yield found


def _equal_functions(left: Expr, right: Expr) -> bool:
    """Whether two expressions agree at all of at least two points (one, if they are constant)."""
    agreeing = 0
    for values in _values_at_points(left, right):
        if not _close(*values):
            return False
        agreeing += 1
    return agreeing >= (2 if left.free_symbols or right.free_symbols else 1)


def _close(left: Expr, right: Expr) -> bool:
    if left.is_Rational and right.is_Rational:
        return left == right
    return abs(left - right) <= RELATIVE_NOISE * max(abs(left), abs(right))


def _equal_relations(left: Relational, right: Relational) -> bool:
    """Whether the two say the same after moving everything to one side, up to a constant factor."""
    left, right = (relation.reversed if relation.rel_op in ("<", "<=") else relation for relation in (left, right))
    if left.rel_op != right.rel_op:
        return False
    sides = [relation.lhs - relation.rhs for relation in (left, right)]
    factors = [a / b for a, b in _values_at_points(*sides) if a != 0 and b != 0]
    directed = left.rel_op in (">", ">=")
    return (
        len(factors) >= 2
        and all(_close(factor, factors[0]) for factor in factors)
        and (not directed or bool(factors[0].is_positive))
    )
