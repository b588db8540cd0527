"""Whether two expressions are one function of their variables, by their values at points.

What is called with expressions may raise any of UNREADABLE. Nothing here bounds its own time or memory: call it in a
grader process.
"""

import random
import re
from collections.abc import Iterator
from functools import lru_cache

import sympy
from latex2sympy2_extended import NormalizationConfig
from math_verify import LatexExtractionConfig, parse
from sympy import Expr
from sympy.core.function import AppliedUndef
from sympy.core.relational import Relational

# math-verify's own idea of units takes the variable of 6m for metres
_EXTRACTION = LatexExtractionConfig(
    normalization_config=NormalizationConfig(
        basic_latex=True, units=False, malformed_operators=True, nits=True, boxed="none"
    )
)
_ROUNDING = (sympy.floor, sympy.ceiling)
_KINKED = (sympy.Abs, sympy.Max, sympy.Min, sympy.sign, *_ROUNDING)
_DISCRETE = (sympy.factorial, sympy.binomial, sympy.Sum, sympy.Product)
# of values that are computed to 30 digits
_RELATIVE_NOISE = sympy.Float("1e-20", 30)
_POINTS = 18
# What sympy and math-verify raise for texts that make no sense to them, such as a matrix plus a number
UNREADABLE = (ArithmeticError, AttributeError, LookupError, NotImplementedError, RecursionError, TypeError, ValueError)


def parsed_pair(left: str, right: str) -> tuple[sympy.Basic | None, sympy.Basic | None]:
    """What math-verify reads in both (normalised), None where it reads nothing. R and r stay two variables."""
    return tuple(map(_parsed, _with_distinct_letters(left, right)))


@lru_cache(maxsize=256)
def _parsed(text: str) -> sympy.Basic | None:
    text = re.sub(r"\\text\{\s*([A-Za-z])\s*\}", r" \1 ", text)
    try:
        found = parse(f"${text}$", [_EXTRACTION], "no_fallback", extraction_mode="first_match", parsing_timeout=None)
    except UNREADABLE:
        return None
    return found[0] if found else None


def _with_distinct_letters(*texts: str) -> list[str]:
    """The same texts with upper-case letters renamed where math-verify, which takes R for r, would confuse them."""
    letters = set(re.findall(r"(?<![A-Za-z])[A-Za-z]", re.sub(r"\\[A-Za-z]+", " ", " ".join(texts))))
    confused = sorted(letter for letter in letters if letter.isupper() and letter.lower() in {*letters, "e", "i"})
    spare = [letter for letter in "zwvuqpbhjlsdacnmkrtxy" if letter not in letters and letter.upper() not in letters]
    renamed = dict(zip(confused, spare, strict=False))
    pattern = re.compile(r"\\[A-Za-z]+|[A-Z]")
    return [pattern.sub(lambda letter: renamed.get(letter.group(), letter.group()), text) for text in texts]


def same_function(left: Expr, right: Expr) -> bool | None:
    """Whether the two agree at all points where both are real or both are not; None if fewer than two such are found.

    Numbers need one. True is not a proof, and so the points are of both signs and of several sizes.
    """
    agreeing = 0
    for values in _values_at_points(left, right):
        if not _close(*values):
            return False
        agreeing += 1
    return True if agreeing >= (2 if _variables(left) | _variables(right) else 1) else None


def number(expression: Expr) -> sympy.Rational | sympy.Float | None:
    """Its value, exact if it is rational, else to 50 digits; None if it has variables, or is not real and finite."""
    if expression.free_symbols:
        return None
    exact = expression.doit()
    found = exact if exact.is_Rational else sympy.N(exact, 50)
    return found if found.is_Rational or found.is_Float else None


def same_relation(left: Relational, right: Relational) -> bool | None:
    """True if everything on one side is the same function up to a constant factor, False if the letters differ."""
    if {str(letter) for letter in _variables(left)} != {str(letter) for letter in _variables(right)}:
        return False
    left, right = (relation.reversed if relation.rel_op in ("<", "<=") else relation for relation in (left, right))
    sides = [relation.lhs - relation.rhs for relation in (left, right)]
    if left.rel_op != right.rel_op or not all(isinstance(side, Expr) for side in sides):
        return None
    factors = [a / b for a, b in _values_at_points(*sides) if a != 0 and b != 0]
    proportional = len(factors) >= 2 and all(_close(factor, factors[0]) for factor in factors)
    return True if proportional and (left.rel_op not in (">", ">=") or bool(factors[0].is_positive)) else None


def _variables(expression: sympy.Basic) -> set[Expr]:
    return expression.free_symbols | expression.atoms(AppliedUndef)


def _values_at_points(*expressions: Expr) -> Iterator[list[Expr]]:
    """Values of the expressions at seeded points where all of them are finite: exact if rational, else to 30 digits.

    Symbols of one name are one variable; i and e are the constants. Points where a root or a logarithm of a negative
    number is taken are left out: in a formula such letters are positive. Factorials take positive integers.
    """
    expressions = tuple(
        expression.xreplace({number: sympy.Rational(str(number)) for number in expression.atoms(sympy.Float)})
        for expression in expressions
    )
    atoms = sorted(set().union(*map(_variables, expressions)), key=str)
    powers = set().union(*(expression.atoms(sympy.Pow) for expression in expressions))
    logarithms = set().union(*(expression.atoms(sympy.log) for expression in expressions))
    roots = [(power.base, power.exp) for power in powers if power.base.free_symbols and not power.exp.is_integer]
    roots += [(logarithm.args[0], sympy.S.Half) for logarithm in logarithms]
    steep = any(power.exp.free_symbols for power in powers) or any(e.has(sympy.exp) for e in expressions)
    discrete = any(expression.has(*_DISCRETE) for expression in expressions)
    discrete = discrete or any(power.base.is_negative and power.exp.free_symbols for power in powers)  # (-1)^n
    rounded = any(expression.has(*_ROUNDING) for expression in expressions)
    sizes = [1, 4] if steep else [1, 1, 20, 300]
    if any(expression.has(*_KINKED) for expression in expressions):  # on both sides of where |x-2000| has its kink
        numbers = set().union(*(expression.atoms(sympy.Rational) for expression in expressions))
        numbers |= {power.doit() for power in powers if power.args[0].is_Integer and power.args[1] in range(10)}
        sizes.append(3 * max([1, *(abs(number) for number in numbers if abs(number) < 10**9)]))
    rng = random.Random(0)
    for index in range((2 * _POINTS if rounded else _POINTS) if atoms else 1):
        values = {"i": sympy.I, "e": sympy.E}
        for atom in atoms:
            point = sympy.Rational(rng.randint(20, 200), 97) * sizes[index // 2 % len(sizes)]
            whole = discrete or (rounded and index % 3 == 0)
            positive = sympy.Integer(3 + index + rng.randint(0, 7)) if whole else point
            values.setdefault(str(atom), -positive if index % 2 and not discrete and rng.random() < 0.5 else positive)
        at_point = {atom: values[str(atom)] for atom in atoms}
        try:
            if any(_negative(base.xreplace(at_point)) and not exp.xreplace(at_point).is_integer for base, exp in roots):
                continue
            found = [expression.xreplace(at_point).doit() for expression in expressions]
            found = [value if value.is_Rational else sympy.N(value, 30) for value in found]
            finite = all(value.is_number and value.is_finite for value in found)
        except UNREADABLE:
            continue
        if finite:
            yield found


def _negative(value: Expr) -> bool:
    return bool(sympy.N(value).is_negative)


def _close(left: Expr, right: Expr) -> bool:
    if left.is_Rational and right.is_Rational:
        return left == right
    return bool(abs(left - right) <= _RELATIVE_NOISE * max(abs(left), abs(right)))
