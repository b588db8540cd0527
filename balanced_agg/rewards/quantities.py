r"""A value with a unit, as text (normalised): ``60 \text{km} / \text{h}`` is "60" and {km: 1, h: -1}."""

import re
from fractions import Fraction

from balanced_agg.rewards.answer_text import normalise, read_literal, thousands_readings

Unit = dict[str, int]

# Units and their spellings, singular. Any other word is a unit of its own, such as apple.
_SPELLINGS = """
m meter metre|s sec second|g gram gramme|h hr hour|min minute|d day|l liter litre|in inch inche|ft foot feet|yd yard
mi mile|lb pound|oz ounce|N newton|J joule|W watt|V volt|A amp ampere|K kelvin|Pa pascal|Hz hertz|C celsius
F fahrenheit|T tesla|eV electronvolt|cal calorie|mol mole|ohm|rad radian|deg degree|au|ly|pc parsec
cm centimeter centimetre|mm millimeter millimetre|km kilometer kilometre|um micrometer micron|nm nanometer
kg kilogram|mg milligram|ml milliliter millilitre
ms millisecond|us microsecond|ns nanosecond|mph|kph|kN kilonewton|kJ kilojoule|kW kilowatt|MW
kV kilovolt|mV|mA|kPa|kHz|MHz|GHz|keV|MeV|GeV|kcal|kohm|dollar usd|cent|year yr|month|week wk|erg|dyn|atm|angstrom
""".strip().replace("\n", "|")
_SYMBOLS = {word: line.split()[0] for line in _SPELLINGS.split("|") for word in line.split()}
_SCALES = {"hundred": 10**2, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12, "dozen": 12}
_SCALE = re.compile(rf"({'|'.join(_SCALES)})s?\b *", re.IGNORECASE)
# Words that make another number, or another statement, of what stands before them
_NO_UNIT = re.compile(
    rf"\b(?:{'|'.join(_SCALES)}|tens?|halves|half|thirds?|quarters?|\w+[nrdtvx]ths?|factorial|mod|modulo|"
    r"times|plus|minus|over|divided|to|is|are|was|not|no|isn|wrong|incorrect|false|actually|wait|but|or|and|if|then|so|"
    r"because|since|when|where|with|for|which|from|than|more|less|least|most|about|approximately|equals?|choose)\b",
    re.IGNORECASE,
)
_UNITS_IN_BRACES = r" ?\{((?:\\text\{[^{}]*\}|\\cdot|\\mu|[ ^\d*-]|\{-?\d+\})+)\}"
_FRACTION_OF_UNITS = re.compile(rf"\\frac(?= ?\{{ ?\\(?:mu ?)?\\?text){_UNITS_IN_BRACES}{_UNITS_IN_BRACES}")
_POWER = re.compile(r"(?<=[A-Za-z]) ?\^? ?-?\d+")
_TOKEN = re.compile(
    r"(?P<text>\\text\{(?:[^{}]|\{[^{}]*\})*\})|(?P<power>\^ ?(?:\{ ?-?\d+ ?\}|-?\d+))"
    r"|(?P<symbol>\\(?:mu|Omega|ohm|AA)(?![A-Za-z]))|(?P<between>[ /*.()]|\\(?:cdot|times)(?![A-Za-z]))"
    r"|(?P<word>[A-Za-z]+)|(?P<other>\\[A-Za-z]+|.)",
    re.DOTALL,
)


def split_unit(text: str, letters: bool = False) -> tuple[str, Unit | None]:
    r"""`text` without the unit at its end, and that unit; (text, None) where it has none.

    A unit is what stands in ``\text{...}``, and known symbols and words of three letters or more in plain writing; with
    `letters` a single one behind a space, too: m in 6m may be a variable. ``2 \text{thousand}`` is 2000 without a unit.
    What says something else (``5 \text{is wrong}``) is no unit.
    """
    text = _FRACTION_OF_UNITS.sub(r"\1/(\2)", text)
    tokens = list(_TOKEN.finditer(text))
    start = len(tokens)
    while start and not tokens[start - 1]["other"] and not _is_variable(text, tokens[start - 1], letters):
        start -= 1
    while start < len(tokens) and (tokens[start]["power"] or tokens[start]["between"]):
        start += 1
    if start == len(tokens):
        return text, None
    value = re.sub(r"(?: |\*|\\cdot|\\times|\()*$", "", text[: tokens[start].start()])
    words = _plain(text[tokens[start].start() :])
    scale = _SCALE.match(words)
    if scale:
        literal = read_literal(value)
        if literal is None:
            return text, None
        scaled = literal.value * _SCALES[scale[1].lower()]
        value, words = f"{scaled.numerator}/{scaled.denominator}".removesuffix("/1"), words[scale.end() :]
    unit = _read(words)
    known = bool(unit) and all(name in _SYMBOLS.values() for name in unit)
    says_more = _NO_UNIT.search(words) or re.search(r"[\d,;:=]", _POWER.sub("", words)) or "squared" in unit
    counted = re.search(r"\d|\\pi", value) and not says_more and not re.fullmatch("[A-Za-z]", words)
    if not value or not (known or counted):
        return text, None
    return value, unit or None


def _is_variable(text: str, token: re.Match, letters: bool) -> bool:
    """Whether a word of plain letters can be a product of variables."""
    word, before = token["word"], text[: token.start()]
    if not word:
        return False
    if word in ("k", "M", "m") and text.startswith(r"\Omega", token.end()):
        return False
    if word in ("m", "s", "h", "g", "l", "L") and re.search(r"/ ?$|\bper $|\\mu ?$", before):
        return False
    if word in ("m", "km") and re.match(r" ?/ ?[sh](?![A-Za-z])", text[token.end() :]):
        return False
    if len(word) == 1:
        beside_text = re.search(r"\\text|(?<![A-Za-z\\])kg\b", text) or (letters and re.search(r"[\d}] $", before))
        return word not in _SYMBOLS or not beside_text
    known = word in _SYMBOLS or word.lower() in _SYMBOLS
    behind_digit = re.search(r"[\d}]$", before)
    return not known if len(word) == 2 or behind_digit else False


def _plain(unit: str) -> str:
    r"""Without LaTeX: ``\text{kg}\cdot\mu\text{m}^{-2}`` as kg um^-2."""
    unit = re.sub(r"\\text\{((?:[^{}]|\{[^{}]*\})*)\}", r"\1", re.sub(r"\\(?:cdot|times)(?![A-Za-z])", " ", unit))
    unit = re.sub(r"\\mu ?", "u", re.sub(r"\\(?:Omega|ohm)(?![A-Za-z])", "ohm", unit.replace(r"\AA", "angstrom")))
    return re.sub(r"[*{}]", " ", unit).strip()


def _read(words: str) -> Unit:
    """The power of each symbol. What stands behind "/" or "per" divides, in brackets all of it."""
    powers: Unit = {}
    sign, power_of_next, depth = 1, 1, 0
    pattern = (
        r"(?P<per>/|\bper\b)|(?P<open>\()|(?P<close>\))|(?P<name>[^\W\d_]+)(?: ?\^ ?(?P<power>-?\d+)|(?P<minus>-\d+))?"
    )
    for token in re.finditer(pattern, words):
        if token["per"]:
            sign = -1
        elif token["open"] or token["close"]:
            depth += 1 if token["open"] else -1
            sign = sign if depth else 1
        elif token["name"].lower() in ("square", "sq", "cubic", "cu"):
            power_of_next = 2 if token["name"].lower().startswith("sq") else 3
        elif token.start() and token["name"].lower() in ("squared", "cubed"):
            if powers:
                powers[next(reversed(powers))] *= 2 if token["name"].lower() == "squared" else 3
        else:
            name = _symbol(token["name"])
            if name != "unit":
                powers[name] = powers.get(name, 0) + sign * int(token["power"] or token["minus"] or power_of_next)
            power_of_next, sign = 1, sign if depth else 1
    return {name: power for name, power in powers.items() if power}


def _symbol(name: str) -> str:
    for spelling in (name, name.lower(), name.lower().removesuffix("s")):
        if spelling in _SYMBOLS:
            return _SYMBOLS[spelling]
    return name.lower().removesuffix("s")


def units_differ(gold: Unit | None, answer: Unit | None) -> bool:
    """Whether both are named and neither is a part of the other, as "students" is of "students in the room"."""
    return bool(gold and answer) and not (gold.items() <= answer.items() or answer.items() <= gold.items())


def same_number(gold: str, answer: str) -> bool | None:
    """Whether two number literals are the same number; None if one is not a literal, so that nothing is decided.

    Thousands separators, leading zeros, ``142.0``, dollars, units and a full stop make no difference.
    """
    values: list[Fraction] = []
    units = []
    for text in (gold, answer):
        value, unit = split_unit(thousands_readings(normalise(text))[0])
        literal = read_literal(value)
        if literal is None or literal.percent:
            return None
        values.append(literal.value)
        units.append(unit)
    return values[0] == values[1] and not units_differ(*units)
