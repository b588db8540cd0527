r"""Named ways to write an answer: each makes of a gold pairs (gold, answer) that are equal, or that are not.

A rewriting gives nothing where it does not fit: thousands separators need four digits.
"""

import re
from collections.abc import Callable, Iterator
from decimal import Decimal
from fractions import Fraction

Pairs = Iterator[tuple[str, str]]
Rewriting = Callable[[str], Pairs]

INTEGER = re.compile(r"-?\d{1,40}")
FRACTION = re.compile(r"(-?)\\[dt]?frac\{(\d+)\}\{(\d+)\}")
EQUAL: dict[str, Rewriting] = {}
UNEQUAL: dict[str, Rewriting] = {}


def equal(rewriting: Rewriting) -> Rewriting:
    EQUAL[rewriting.__name__] = rewriting
    return rewriting


def unequal(rewriting: Rewriting) -> Rewriting:
    UNEQUAL[rewriting.__name__] = rewriting
    return rewriting


def is_number(gold: str) -> bool:
    return bool(INTEGER.fullmatch(gold) or re.fullmatch(r"-?\d+\.\d+", gold) or FRACTION.fullmatch(gold))


def is_single(gold: str) -> bool:
    """One expression: no list, relation, text or environment."""
    return not re.search(
        r"[,;=<>&%]|\\(?:text|mbox|le|ge|in|cup|begin|pm|mp|circ|ldots|cdots|not|infty)|_|\$|or |and ", gold
    )


def top_level_parts(gold: str) -> list[str]:
    return [part.strip() for part in gold.split(",")] if not re.search(r"[()\[\]{}$]", gold) else []


def replaced(gold: str, pattern: str, replacement: str) -> Pairs:
    changed = re.sub(pattern, replacement, gold)
    if changed != gold:
        yield gold, changed


# The same answer


@equal
def itself(gold: str) -> Pairs:
    yield gold, gold


@equal
def other_fraction_command(gold: str) -> Pairs:
    plain = gold.replace(r"\dfrac", r"\frac").replace(r"\tfrac", r"\frac")
    for command in (r"\\dfrac", r"\\tfrac"):
        yield from replaced(plain, r"\\frac", command)


@equal
def fraction_with_a_slash(gold: str) -> Pairs:
    if found := FRACTION.fullmatch(gold):
        yield gold, f"{found[1]}{found[2]}/{found[3]}"
        yield f"{found[1]}{found[2]}/{found[3]}", gold


@equal
def terminating_decimal(gold: str) -> Pairs:
    if found := FRACTION.fullmatch(gold):
        exact = Decimal(found[2]) / Decimal(found[3])
        if Fraction(exact) == Fraction(int(found[2]), int(found[3])):
            yield gold, f"{found[1]}{exact:f}"


@equal
def six_decimals_of_a_repeating_one(gold: str) -> Pairs:
    if (found := FRACTION.fullmatch(gold)) and 10**12 % Fraction(int(found[2]), int(found[3])).denominator:
        yield gold, found[1] + f"{int(found[2]) / int(found[3]):.8f}"


@equal
def sized_brackets(gold: str) -> Pairs:
    if not re.search(r"\\(?:left|right)", gold):
        changed = re.sub(r"(?<!\\)([(\[])", r"\\left\1", re.sub(r"(?<!\\)([)\]])", r"\\right\1", gold))
        if changed != gold and gold.count("(") + gold.count("[") == gold.count(")") + gold.count("]"):
            yield gold, changed


@equal
def spaces_around_signs(gold: str) -> Pairs:
    yield from replaced(gold, r"(?<=[\w}]) ?([+=]) ?(?=[\w\\])", r" \1 ")


@equal
def thin_spaces_and_full_stop(gold: str) -> Pairs:
    if is_single(gold):
        yield gold, rf"\,{gold}\,."


@equal
def display_style_and_bold(gold: str) -> Pairs:
    if is_single(gold):
        yield gold, rf"\displaystyle {gold}"
        yield gold, rf"\boldsymbol{{{gold}}}"
        yield gold, f"**{gold}**"


@equal
def a_name(gold: str) -> Pairs:
    if is_single(gold) and not re.search("[A-Za-z]", re.sub(r"\\[A-Za-z]+", "", gold)):
        for name in ("x", "S", "x_1", r"\theta", "f(2)", r"\angle ABC", "m+n"):
            yield gold, f"{name} = {gold}"
            yield f"{name} = {gold}", gold


@equal
def a_calculation_before(gold: str) -> Pairs:
    if INTEGER.fullmatch(gold) and int(gold) > 2:
        yield gold, f"{int(gold) - 2} + 2 = {gold}"
        yield gold, f"S = {int(gold) - 2} + 2 = {gold}"


UNITS = [
    r" \text{ cm}", r"\,\text{cm}", r" \, \text{J}", r"\ \text{N}",
    r"\text{ meters}", r"\mathrm{~m}", r" \mathrm{~km} / \mathrm{h}",
    r"\,\text{km/h}", r" \text{ m/s}^2",
    r" \frac{\text{W}}{\text{m}^2}", r" \, \frac{\text{J}}{\text{kg}}", r" \ \mu\text{m}",
    r"\,\mathrm{kg}\cdot\mathrm{m}^2", r" \text{ square inches}",
    r" \mathrm{~J} \mathrm{~mol}^{-1}", " cm", "cm", " m/s", " hours",
    " km per hour", r" \, \Omega", r"^\circ", r" \text{ degrees}", r"^\circ\text{C}", r"\text{ students}",
    r" \text{ ways}", " dollars", r"\,\mathrm{s}^{-1}", r" \text{ kg}\cdot\text{m}/\text{s}^2", r"\;\mathrm{eV}",
]  # fmt: skip


@equal
def a_unit_behind(gold: str) -> Pairs:
    if is_number(gold):
        for unit in UNITS:
            yield gold, gold + unit
            yield gold + unit, gold


@equal
def the_same_unit_in_other_letters(gold: str) -> Pairs:
    if is_number(gold):
        for one, other in (
            ("seconds", "s"),
            ("hours", "h"),
            ("meters", "m"),
            ("cm", "centimeters"),
            ("kilograms", "kg"),
        ):
            yield rf"{gold} \text{{ {one}}}", rf"{gold} \, \mathrm{{{other}}}"


@equal
def text_around_value_and_unit(gold: str) -> Pairs:
    if INTEGER.fullmatch(gold):
        yield gold, rf"\text{{{gold} cm}}"


@equal
def thousands_separators(gold: str) -> Pairs:
    if INTEGER.fullmatch(gold) and abs(int(gold)) >= 1000:
        for separator in (",", "{,}", r",\!", r"\,", r"\;"):
            yield gold, f"{int(gold):,}".replace(",", separator)


@equal
def number_words(gold: str) -> Pairs:
    if INTEGER.fullmatch(gold) and int(gold):
        yield f"{gold}000", rf"{gold} \text{{ thousand}}"
        yield f"{gold}000000", f"{gold} million"


@equal
def zeros_and_plus(gold: str) -> Pairs:
    if INTEGER.fullmatch(gold):
        yield gold, f"{gold}.0"
        yield gold, f"{gold}.00"
        if not gold.startswith("-"):
            yield gold, f"+{gold}"
            yield gold, f"0{gold}"


@equal
def unicode_writing(gold: str) -> Pairs:
    changed = (
        gold.replace("-", "−").replace(r"\pi", "π").replace(r"\cdot", "·").replace(r"\infty", "∞").replace(r"\cup", "∪")
    )
    changed = re.sub(r"\^(?:\{([0-9])\}|([0-9])(?!\d))", lambda m: "⁰¹²³⁴⁵⁶⁷⁸⁹"[int(m[1] or m[2])], changed)
    changed = re.sub(r"\\sqrt\{(\d+)\}", r"√\1", changed)
    if changed != gold and not re.search(r"\\(?!text|frac|dfrac)", changed):
        yield gold, changed


@equal
def full_width_signs(gold: str) -> Pairs:
    if is_number(gold) and not gold.startswith("\\") and "frac" not in gold:
        yield gold, gold.translate({ord(c): ord(c) + 0xFEE0 for c in "0123456789-."})
    if re.fullmatch(r"\(-?\d+, ?-?\d+\)", gold):
        yield gold, gold.translate({ord(c): ord(c) + 0xFEE0 for c in "(),"})


@equal
def vulgar_fraction(gold: str) -> Pairs:
    if gold in (
        characters := {
            r"\frac{1}{2}": "½",
            r"\frac{1}{4}": "¼",
            r"\frac{3}{4}": "¾",
            r"\frac{1}{3}": "⅓",
            r"\frac{2}{3}": "⅔",
        }
    ):
        yield gold, characters[gold]


@equal
def plain_writing(gold: str) -> Pairs:
    changed = re.sub(r"(?<!\d)(?<!\d )\\[dt]?frac\{([^{}]+)\}\{([^{}]+)\}", r"(\1)/(\2)", gold)
    changed = re.sub(r"\\sqrt\{([^{}]+)\}", r"sqrt(\1)", changed)
    changed = re.sub(r"\^\{?(\d+)\}?", r"**\1", changed).replace(r"\cdot", "*").replace(r"\pi", "pi")
    if changed != gold and is_single(gold) and "\\" not in changed:
        yield gold, re.sub(r"(\d)(sqrt|pi)", r"\1*\2", changed)


@equal
def a_product_without_a_sign(gold: str) -> Pairs:
    if INTEGER.fullmatch(gold) and int(gold) > 3:
        for divisor in (2, 3, 5, 7):
            if int(gold) % divisor == 0 and int(gold) > divisor:
                yield gold, f"{int(gold) // divisor}({divisor})"
                yield gold, rf"{int(gold) // divisor}\left({divisor}\right)"
                yield gold, rf"{int(gold) // divisor}\cdot {divisor}"
                yield gold, rf"{int(gold) // divisor}\binom{{{divisor}}}{{1}}"


@equal
def arithmetic_left_undone(gold: str) -> Pairs:
    if INTEGER.fullmatch(gold):
        yield gold, f"{int(gold) - 1}+1"
        yield gold, rf"\frac{{{2 * int(gold)}}}{{2}}"
        yield gold, rf"{int(gold)}\cos 0^\circ"


@equal
def angle_within_a_function(gold: str) -> Pairs:
    for value, spellings in {
        r"\frac{1}{2}": [r"\cos 60^\circ", r"\sin(30^{\circ})", "cos(60°)"],
        "1": [r"\tan 45^\circ"],
    }.items():
        if gold == value:
            yield from ((gold, spelling) for spelling in spellings)


@equal
def an_approximation_behind(gold: str) -> Pairs:
    if found := FRACTION.fullmatch(gold):
        yield gold, rf"{gold} \approx {found[1]}{int(found[2]) / int(found[3]):.3f}"
    if INTEGER.fullmatch(gold):
        yield gold, rf"\approx {gold}"
        yield gold, rf"x \approx {gold}"


@equal
def parts_in_another_order(gold: str) -> Pairs:
    parts = top_level_parts(gold)
    if len(parts) > 1 and "=" not in gold and "dots" not in gold:
        turned = parts[::-1]
        yield gold, ", ".join(turned)
        yield gold, r"\{" + ", ".join(turned) + r"\}"
        yield gold, r" \text{ and } ".join(turned)
        yield gold, " or ".join(turned)
        yield gold, "; ".join(turned)
        yield gold, ", ".join(f"x = {part}" for part in turned)
        yield gold, r"x \in \{" + ", ".join(turned) + r"\}"
        yield ", ".join(f"$x={part}$" for part in parts), ", ".join(turned)


@equal
def pairs_in_another_order(gold: str) -> Pairs:
    if len(pairs := re.findall(r"\(-?\d+, ?-?\d+\)", gold)) > 1 and re.fullmatch(r"(?:\(-?\d+, ?-?\d+\),? ?)+", gold):
        yield f"(m,n)={', '.join(pairs)}", f"(m,n)={', '.join(pairs[::-1])}"
        yield gold, ", ".join(pairs[::-1])


@equal
def both_signs(gold: str) -> Pairs:
    if INTEGER.fullmatch(gold) and int(gold) > 0:
        yield rf"\pm {gold}", f"{gold}, -{gold}"
        yield f"-{gold}, {gold}", rf"\pm {gold}"
        yield f"-{gold}, {gold}", rf"x = \pm {gold}"


@equal
def a_set_of_reals(gold: str) -> Pairs:
    if is_number(gold):
        yield rf"({gold},\infty)", rf"({gold},+\infty)"
        yield rf"[{gold},\infty)", rf"x \in [{gold}, \infty)"
        yield rf"[{gold},\infty)", rf"x \ge {gold}"
        yield rf"x \geq {gold}", rf"x \in [{gold}, +\infty)"
        yield rf"(-\infty,{gold})", rf"{gold} > x"
        yield rf"({gold},\infty)", rf"\{{x \mid x > {gold}\}}"
        yield rf"({gold},\infty)", rf"\{{x \in \mathbb{{R}} : x > {gold}\}}"
        yield rf"(-\infty,-1000) \cup ({gold},\infty)", rf"x < -1000 \text{{ or }} x > {gold}"
        yield rf"(-\infty,-1000) \cup ({gold},\infty)", rf"({gold}, +\infty) \cup (-\infty, -1000)"
        yield rf"(-1000, {gold}]", rf"-1000 < x \leq {gold}"


@equal
def a_sum_turned_round(gold: str) -> Pairs:
    if found := re.fullmatch(r"([\w\\]+) ?\+ ?([\w\\]+)", gold):
        yield gold, f"{found[2]} + {found[1]}"


@equal
def words(gold: str) -> Pairs:
    if found := re.fullmatch(r"\\text\{([A-Za-z]+)\}", gold):
        yield gold, found[1]
        yield gold, rf"\textbf{{{found[1]}}}"
        yield gold, rf"\mathrm{{{found[1]}}}"


# Another answer


def with_other_numbers(gold: str) -> Pairs:
    for number in re.finditer(r"\d+", gold):
        for changed in (int(number[0]) + 1, int(number[0]) - 1):
            yield gold, f"{gold[: number.start()]}{changed}{gold[number.end() :]}"


unequal(with_other_numbers)


@unequal
def another_sign(gold: str) -> Pairs:
    if is_number(gold) and not re.fullmatch(r"-?0+(?:\.0+)?", gold):
        yield gold, gold[1:] if gold.startswith("-") else f"-{gold}"


@unequal
def a_part_more_or_fewer(gold: str) -> Pairs:
    parts = top_level_parts(gold) if not re.search(r"\d,\d{3}", gold) else []
    if parts and "=" not in gold:
        yield gold, ", ".join([*parts, "7919"])
        yield gold, ", ".join([*parts, parts[0]])
        if len(parts) > 1:
            yield gold, ", ".join(parts[1:])


@unequal
def coordinates_in_another_order(gold: str) -> Pairs:
    if (found := re.fullmatch(r"\((-?\w+), ?(-?\w+)\)", gold)) and found[1] != found[2]:
        yield gold, f"({found[2]},{found[1]})"


@unequal
def other_brackets(gold: str) -> Pairs:
    if is_number(gold):
        yield rf"[{gold},\infty)", rf"({gold},\infty)"
        yield rf"x \ge {gold}", f"x > {gold}"
        yield rf"x \ge {gold}", rf"x \le {gold}"
        yield rf"({gold},\infty)", rf"\{{x \mid x < {gold}\}}"
        yield rf"({gold}, 7919)", rf"[{gold}, 7919]"
        yield rf"{gold}, 7919", rf"({gold}, 7919)"
        yield gold, rf"[0, {gold}]"
        yield gold, rf"x \ge {gold}"


@unequal
def a_number_word_behind(gold: str) -> Pairs:
    if is_number(gold) and not re.fullmatch(r"0+", gold):
        for word in (r" \text{ million}", " million", r"\text{ thousand}", " hundred", r"\text{ dozen}"):
            yield gold, gold + word


@unequal
def a_letter_behind(gold: str) -> Pairs:
    if is_number(gold) and not re.fullmatch(r"0+", gold):
        for letter in ("x", r"\text{x}", " x", r"\,y", "n"):
            yield gold, gold + letter


@unequal
def another_statement_behind(gold: str) -> Pairs:
    if is_number(gold):
        for statement in (
            r"\text{ is wrong, it is 7919}",
            r" \text{ or maybe } 7919",
            r" \approx 7919, 8, 9",
            r" \neq 7919",
            r" \Rightarrow 7919",
        ):
            yield gold, gold + statement


@unequal
def another_unit(gold: str) -> Pairs:
    if is_number(gold):
        for one, other in (
            ("seconds", "minutes"),
            ("cm", "m"),
            ("kg", "g"),
            ("hours", "days"),
            ("cm^2", "cm^3"),
            ("dollars", "cents"),
        ):
            yield rf"{gold} \text{{ {one}}}", rf"{gold} \text{{ {other}}}"


@unequal
def an_equation_that_it_solves(gold: str) -> Pairs:
    if is_number(gold):
        yield gold, f"x^2 = {gold}"
        yield gold, f"2x + 1 = {gold}"


@unequal
def digits_apart(gold: str) -> Pairs:
    if re.fullmatch(r"\d{2,}", gold):
        yield gold, " ".join(gold)
        yield gold, ", ".join(gold)


@unequal
def another_base(gold: str) -> Pairs:
    if re.fullmatch(r"[01]+|\d{2,6}", gold):
        yield f"{gold}_8", f"{gold}_9"
        yield f"{gold}_8", gold
        yield f"0.{gold}_{{12}}", f"0.{gold}_{{13}}"


@unequal
def a_little_more(gold: str) -> Pairs:
    if INTEGER.fullmatch(gold):
        yield gold, f"{gold}.0000001"
        yield gold, f"{gold} + 10^{{-30}}"
        yield rf"10^{{50}}+{gold.lstrip('-')}", rf"10^{{50}}+{gold.lstrip('-')}+1"
        yield r"\frac{1}{2^{99}}", rf"\frac{{1}}{{2^{{{int(gold[-1]) + 7}}}}}"


@unequal
def another_function(gold: str) -> Pairs:
    if INTEGER.fullmatch(gold):
        number = gold.lstrip("-")
        yield f"|x-{number}|", f"{number}-x"
        yield f"|x-{number}|", f"x-{number}"
        yield rf"\sqrt{{({number}x)^2}}", f"{number}x" if int(number) else "x"
        yield rf"\max(x,{number})", number
        yield rf"\lfloor x/100 \rfloor + {number}", number
        yield f"{number}R + r", f"{number}r + R" if int(number) != 1 else "r - R"
        yield rf"{number} + \sin x", rf"{number} + \cos x"


@unequal
def the_sum_of_a_product(gold: str) -> Pairs:
    if INTEGER.fullmatch(gold) and int(gold) > 4:
        yield gold, f"{int(gold) - 2}(2)"
        yield gold, rf"{int(gold) - 2}\left(2\right)"
        yield gold, rf"{int(gold) - 5}\binom{{5}}{{1}}" if int(gold) != 6 else "7"


@unequal
def pairs_without_a_comma(gold: str) -> Pairs:
    if INTEGER.fullmatch(gold):
        yield rf"x={gold} \quad y=2", rf"x={int(gold) + 1} \quad y=2"
        yield rf"x={gold} \quad y=2", rf"x={gold} \quad y=3"
        yield f"({gold},100)", f"{gold}100"
