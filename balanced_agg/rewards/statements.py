r"""What an answer says of which letter: names (``x = 5``), lists, sets of reals (``x > 3``). Plain string work."""

import re

from balanced_agg.rewards import answer_text
from balanced_agg.rewards.answer_text import split_outside_brackets, squeeze

_ACCENTED = r"\\(?!sqrt|frac|sin|cos|tan|ln|log|exp)[a-z]+\{[A-Za-z]\}"  # \vec{x}
_LETTER = rf"(?:\\?[A-Za-z]+|{_ACCENTED})[ ']*(?:_(?:[A-Za-z0-9]|\{{[^{{}}]*\}}|\\[A-Za-z]+))?'*"
NAME = re.compile(
    rf"(?:\\angle\s*|\\triangle\s*)?(?P<name>\\text\{{[^{{}}]*\}}|{_LETTER}|\({_LETTER}(?:,\s*{_LETTER})+\)|\|[A-Z]+\|"
    r"|[A-Za-z](?:\s*\+\s*[A-Za-z])+|[A-Za-z ]*[A-Za-z])\s*(?:\^\{?-1\}?)?(?:\(\s*(?P<arguments>[^()=]*)\s*\))?"
)
_EQUALS = r"(?<![<>!\\])=|\\in(?![A-Za-z])"
RELATION = re.compile(r"[<>]|\\[lgn]e(?![A-Za-z])|=")
_ORDER = re.compile(r"(<|>|\\le(?![A-Za-z])|\\ge(?![A-Za-z])|\\ne(?![A-Za-z]))")
_SET_OF_ALL = re.compile(
    rf"(?:\\\{{)?\s*({_LETTER})\s*(?:\\in\s*\\mathbb\s*\{{?R\}}?\s*)?(?:\\mid(?![A-Za-z])|:|\|)(.*?)(?:\\\}})?",
    re.DOTALL,
)
_MEMBER = rf"{_LETTER}\s*\\in\s*\\mathbb\{{?R\}}?"
_OF_THE_REALS = re.compile(rf"^{_MEMBER}\s*,|,\s*{_MEMBER}$")
_FROM_INFINITY, _TO_INFINITY = r"(-\infty,", r",\infty)"
_REALS = re.compile(r"\\mathbb\s*\{?\s*R\s*\}?|\\R")


def named(text: str) -> tuple[re.Match | None, str]:
    r"""``x = 5`` as (match of ``x``, "5"). A chain ends in its value: ``S = 2 + 3 = 5``. (None, text) if nameless."""
    first, *others = split_outside_brackets(text, _EQUALS)
    if not others or _ORDER.search(text):
        return None, text
    if negative := re.fullmatch(rf"-\s*({_LETTER}(?:\([^()]*\))?)", first):
        return NAME.fullmatch(negative[1]), f"-({others[-1]})"
    name = NAME.fullmatch(first)
    if name is None and len(others) == 1 and re.fullmatch(_LETTER, others[0]):
        return NAME.fullmatch(others[0]), first
    if name is None and not re.search(r"(?<![A-Za-z\\])[A-Za-z]", " ".join([first, *others])):
        return None, others[-1]  # 2 + 3 = 5
    return (name, others[-1]) if name else (None, text)


def same_arguments(gold: re.Match, answer: re.Match) -> bool:
    """Whether f(2) is f(2), and f(x) is f(n) in another letter; a side without arguments leaves them out."""
    old, new = squeeze(answer["arguments"] or ""), squeeze(gold["arguments"] or "")
    letters = re.compile(r"\\?[A-Za-z]+(?:,\\?[A-Za-z]+)*")
    return not old or not new or old == new or bool(letters.fullmatch(old) and letters.fullmatch(new))


def with_arguments_of(gold: re.Match, answer: re.Match, value: str) -> str:
    """`value` of the function that the answer names, written in the argument of the gold: f(n) = n^2 for f(x) = x^2."""
    old, new = squeeze(answer["arguments"] or ""), squeeze(gold["arguments"] or "")
    if old == new or not (len(old) == len(new) == 1):
        return value
    return re.sub(r"\\[A-Za-z]+|[A-Za-z]", lambda letter: new if letter.group() == old else letter.group(), value)


def values_listed(text: str) -> list[str]:
    r"""The values that an answer lists. A name in front of all of them, ``x \in \{1, 2\}``, is left out."""
    if condition := _condition(text):
        return values_listed(condition)
    name, value = named(text)
    parts = answer_text.parts(value if name and not RELATION.search(value) else text)
    return parts if len(parts) > 1 else answer_text.parts(text)


def _condition(text: str) -> str | None:
    r"""What ``\{x \mid x>3\}`` says of x, with or without the braces; None for anything else, such as a ratio a:b."""
    match = _SET_OF_ALL.fullmatch(text)
    says_something_of_it = match and match[1].strip() in match[2] and RELATION.search(match[2])
    return match[2].strip() if says_something_of_it else None


def intervals(text: str) -> tuple[str | None, list[str]] | None:
    r"""A set of reals as (name of its variable, intervals): ``x<2 \lor x\ge3`` as x, (-\infty,2) and [3,\infty)."""
    text = _condition(text) or text
    name, value = named(text)
    if name and value[:1] in "([":
        text = value
    text = _OF_THE_REALS.sub("", text) or text
    if _REALS.fullmatch(text):
        return name and name["name"], [r"(-\infty,\infty)"]
    found: list[str] = []
    names = {name["name"]} if name else set()
    for piece in split_outside_brackets(text, r"\\cup(?![A-Za-z])|\\lor(?![A-Za-z])"):
        brackets = answer_text.enclosed(piece)
        ends = split_outside_brackets(brackets[1], ",") if brackets and brackets[0] != r"\{" else []
        if len(ends) == 2 and all(ends):
            found.append(piece)
            continue
        relation = _interval_of_relation(piece)
        if relation is None:
            return None
        names.add(relation[0])
        found += relation[1]
    return (next(iter(names), None), found) if len(names) <= 1 else None


def _interval_of_relation(text: str) -> tuple[str, list[str]] | None:
    if len(bounds := split_outside_brackets(text, ",")) == 2:
        return _intersection(*map(_interval_of_relation, bounds))
    sides = [side.strip() for side in _ORDER.split(text)]
    if len(sides) == 3 and re.fullmatch(_LETTER, sides[2]):
        sides = [sides[2], {"<": ">", ">": "<", r"\le": r"\ge", r"\ge": r"\le"}.get(sides[1], sides[1]), sides[0]]
    if len(sides) == 5 and sides[1] in (">", r"\ge"):
        sides = [*reversed(sides)]
        sides[1::2] = ["<" if sign == ">" else r"\le" for sign in sides[1::2]]
    variable = sides[0] if len(sides) == 3 else sides[2] if len(sides) == 5 else ""
    if not re.fullmatch(_LETTER, variable) or variable.startswith((r"\infty", r"\pi")) or "" in sides:
        return None
    if len(sides) == 5:
        if {sides[1], sides[3]} - {"<", r"\le"}:
            return None
        return variable, [f"{'(' if sides[1] == '<' else '['}{sides[0]},{sides[4]}{')' if sides[3] == '<' else ']'}"]
    sign, bound = sides[1:]
    intervals = {
        "<": [rf"(-\infty,{bound})"],
        r"\le": [rf"(-\infty,{bound}]"],
        ">": [rf"({bound},\infty)"],
        r"\ge": [rf"[{bound},\infty)"],
        r"\ne": [rf"(-\infty,{bound})", rf"({bound},\infty)"],
    }
    return variable, intervals[sign]


def _intersection(
    one: tuple[str, list[str]] | None, other: tuple[str, list[str]] | None
) -> tuple[str, list[str]] | None:
    r"""``x>1, x<3``, that is both, as the interval between; None if they are anything else."""
    if not one or not other or one[0] != other[0] or len(one[1]) != 1 or len(other[1]) != 1:
        return None
    upper, lower = sorted((one[1][0], other[1][0]), key=lambda interval: interval.endswith(_TO_INFINITY))
    if not (upper.startswith(_FROM_INFINITY) and lower.endswith(_TO_INFINITY)):
        return None
    return one[0], [lower.removesuffix(_TO_INFINITY) + "," + upper.removeprefix(_FROM_INFINITY)]
