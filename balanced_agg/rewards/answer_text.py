r"""Answers as text: one spelling for equal notation, number literals, and the parts of an answer.

Everything here is plain string work, exact and fast; no expression is evaluated.
"""

import re
import unicodedata
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from balanced_agg.rewards.final_answer import braced

# 10^400 is past anything a benchmark asks for, and writing such a number out is still cheap.
MAX_EXPONENT = 400
MAX_LITERAL_CHARACTERS = 500

_CHARACTERS = str.maketrans(
    {"−": "-", "–": "-", "‐": "-", "‑": "-", "×": r"\times ", "·": r"\cdot ", "⋅": r"\cdot ", "∗": "*", "÷": "/",
     "π": r"\pi ", "μ": r"\mu ", "θ": r"\theta ", "Ω": r"\Omega ", "Å": r"\AA ", "∞": r"\infty ",
     "°": r"^\circ ", "º": r"^\circ ",
     "≤": r"\le ", "≥": r"\ge ", "≠": r"\ne ", "≈": r"\approx ", "∪": r"\cup ", "∈": r"\in ", "±": r"\pm ",
     "√": r"\surd ", "∛": r"\sqrt[3] ", "⁄": "/", "∅": r"\emptyset ", "ℝ": r"\mathbb{R}", "€": "", "£": "",
     "\u202f": r"\,", "\u2009": r"\,", "\x00": " "}
)  # fmt: skip
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ", "0123456789+-n")
_SUBSCRIPTS = str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789")

_FUNCTIONS = "arcsin|arccos|arctan|sinh|cosh|tanh|sin|cos|tan|cot|sec|csc|ln|log|exp"
_DEGREES = r"\s*(?:\^\s*\{?\s*\\circ\s*\}?|\\degree(?![A-Za-z])|\\text\{\s*degrees?\s*\}|\bdegrees?\b)"
# In this order. Each makes two spellings of the same thing one.
_SPELLINGS = [
    (re.compile(pattern), replacement)
    for pattern, replacement in [
        (r"\s+", " "),
        (r"\\!\s*", ""),
        (r"\\\$|\$", ""),
        (r"(?<=\d)(?:\\[,;:]|~) ?(?=\d{3}(?!\d))", ""),  # thousands, and the space behind a digit
        # pairs side by side, x=1 \quad y=2
        (r"\\q?quad\b(?=(?: |\\q?quad\b|\\text\{ ?(?:and|,) ?\})*[A-Za-z](?:_\S+)? ?=)", " , "),
        (r"(?<!\\)\\[,;:> ]|~|\\q?quad\b", " "),
        (r"\\[()]|(?<!\\)\\[\[\]]", " "),
        (r"\\(?:left|right|[bB]igg?[lrm]?)(?![A-Za-z])\.?|\\(?:display|text)style\b|\\limits\b", ""),
        (r"(?<=[\w)}\]])\*\*(?=[\w({-])", "^"),
        (r"\*\*", " "),
        (r"\\(?:text(?:bf|rm|it|normal|sf)?|mbox|hbox|mathrm|mathsf)\s*\{", r"\\text{"),
        (r"\{\s*\\rm\s+|\\rm\s*\{", r"\\text{"),
        (r"\\(?:mathbf|mathit|bm|boldsymbol)\s*\{", "{"),
        (r"\\text\{\s*(-?[\d.,/]*\d)\s*([A-Za-z%][^{}\d,]*)\}", r"\1 \\text{\2}"),
        (r"\\text\{\s*([^{}A-Za-z]+)\}", r"\1"),
        (r" +", " "),
        (r"(?<![\d.])(\d+)\s+(\d+)/(\d+)(?!\d)", r"\1\\frac{\2}{\3}"),
        (r"^\s*\\sim\s*", ""),
        (r"\\text\{\s*([dei])\s*\}|(?:(?<=[=<>,(\[+-])|(?<=[=<>,(\[+-] )|^ ?)\\text\{\s*([A-Za-z])\s*\}", r"\1\2"),
        (r"\\operatorname\*?\s*\{([A-Za-z]+)\}", r"\\\1 "),
        (r"\s*(?:,\s*)?(?:\\text\{\s*,?\s*and\s*\}|(?<![A-Za-z\\])and(?![A-Za-z]))\s*", " , "),
        (r"\s*(?:,\s*)?(?:\\text\{\s*,?\s*or\s*\}|(?<![A-Za-z\\])or(?![A-Za-z])|\\vee\b)\s*", r" \\lor "),
        (r"\\[dtc]frac", r"\\frac"),
        (r"\\([lg]e)q(?:slant)?(?![A-Za-z])", r"\\\1 "),
        (r"<=", r"\\le "),
        (r">=", r"\\ge "),
        (r"\\lt(?![A-Za-z])", "<"),
        (r"\\gt(?![A-Za-z])", ">"),
        (r"\\neq?(?![A-Za-z])|!=", r"\\ne "),
        (r"\\lbrace\b", r"\\{"),
        (r"\\rbrace\b", r"\\}"),
        (r"\\text\{\s*(?:percent|%|\\%)\s*\}|\s*\bpercent\b|\\%", "%"),
        (r"\{\s*,\s*\}", ","),
        (rf"(?<![A-Za-z\\])(pi|theta|alpha|beta|{_FUNCTIONS})(?![A-Za-z])", r"\\\1 "),
        (r"(?<![A-Za-z\\])(?:infinity|inf|oo)(?![A-Za-z])", r"\\infty "),
        (r"(^|[(\[{,<>=] ?|\\[lg]e ?)\+ ?(?=\\infty)", r"\1"),
        # a root in plain writing has all of the number or bracket behind it; TeX's \sqrt has one character
        (r"(?:\\surd|(?<![A-Za-z\\])sqrt) ?(?:(\d+(?:\.\d+)?|[A-Za-z])|\(([^()]*)\))", r"\\sqrt{\1\2}"),
        (r"\\surd\b", r"\\sqrt"),
        (r"\\lg(?![A-Za-z])", r"\\log_{10}"),
        (r"\\log_\{?e\}?", r"\\ln "),
        (r"\\varnothing(?![A-Za-z])|\\\{ ?\\\}", r"\\emptyset"),
        (r"\\langle(?![A-Za-z])", "("),
        (r"\\rangle(?![A-Za-z])", ")"),
        (r",? ?\\text\{ ?\(? ?(?:since|because)\b.*$", ""),
        (r"\\sqrt\s*(\[\d+\])?\s*([0-9A-Za-z])", r"\\sqrt\1{\2}"),
        (r"\\frac\s*([0-9A-Za-z])", r"\\frac{\1}"),
        (r"(\\frac\s*\{[^{}]*\})\s*([0-9A-Za-z])", r"\1{\2}"),
        (r"\(([^(),]*)\) ?/ ?\(([^(),]*)\)", r"\\frac{\1}{\2}"),
        (r"\\[dt]?binom\s*(\d)\s*(\d)", r"\\binom{\1}{\2}"),
        (
            rf"\\({_FUNCTIONS})\s*(\^\{{?\d+\}}?)?\s*[({{]\s*(-?[\d.]+){_DEGREES}\s*[)}}]",
            r"\\\1\2(\\frac{\3\\pi}{180})",
        ),
        (rf"\\({_FUNCTIONS})\s*(\^\{{?\d+\}}?)?\s*(-?[\d.]+){_DEGREES}", r"\\\1\2(\\frac{\3\\pi}{180})"),
        (rf"{_DEGREES}\s*(?:\\text\{{\s*)?([CF])(?![A-Za-z])(?:\s*\}})?", r" \\text{\1}"),
        (_DEGREES, ""),
        (r"\\text\{\s*(\\[a-z]+)\s*\}", r"\1"),
        (
            r"(?:(?<![A-Za-z_])|(?<=\\cdot)|(?<=\\times))(\([^(),]*\)) ?(?=\([^(),]*\)|\d)|(\}) ?(?=\\binom)",
            r"\1\2\\cdot ",
        ),
        # math-verify adds where a number stands before a bracket, as in a mixed number
        (r"(?<![\w.^])(?<!_\{)(\d+(?:\.\d+)?) ?(?=\(|\\binom|\\sqrt|\\frac\{\\)", r"\1\\cdot "),
        (r"([\^_])\s*\{\s*([0-9A-Za-z])\s*\}", r"\1\2"),
        # no function takes a half-open interval: t(0,4] is short for t in (0,4]
        (r"^\s*[A-Za-z]\s*(\([^()\[\]]*\]|\[[^()\[\]]*\))\s*$", r"\1"),
        (r"\s+", " "),
    ]
]
_REPEATING = re.compile(r"(\d{0,20})\.(\d{0,20})\\(?:overline|bar|dot)\s*(?:\{(\d{1,20})\}|(\d))")
_MATRIX_ENVIRONMENT = re.compile(r"\\begin\s*\{([pb]?matrix|array)\}(?:\{[clr|]*\})?(.*)\\end\s*\{\1\}", re.DOTALL)

_THOUSANDS = re.compile(r"(?<![\d.])(?<!\d,)[1-9]\d{0,2}(?:,\d{3})+(?!\d|,\d)")
_DECIMAL = r"\d+\.?\d*|\.\d+"
_LITERAL = re.compile(
    rf"(?P<sign>[+-]?)(?:"
    rf"(?:(?P<whole>\d+)?\\frac\{{(?P<top>[+-]?(?:{_DECIMAL}))\}}\{{(?P<bottom>{_DECIMAL})\}})"
    rf"|(?P<left>{_DECIMAL})/(?P<right>{_DECIMAL})"
    rf"|(?:(?P<mantissa>{_DECIMAL})(?:\\times|\\cdot|\*))?10\^(?:\{{(?P<power>[+-]?\d+)\}}|(?P<digits>[+-]?\d+))"
    rf"|(?P<number>{_DECIMAL})(?:[eE](?P<exponent>[+-]?\d+))?"
    rf")(?P<percent>%?)"
)


@lru_cache(maxsize=1024)  # a gold comes once for each response
def normalise(text: str) -> str:
    r"""One spelling for equal notation: no dollars, ``\left``, thin spaces or degree signs; ``\frac{1}{2}``; and so on.

    The value never changes, except that degrees lose their sign; within a function they become radians.
    """
    text = re.sub("[⁰¹²³⁴-⁹⁺⁻ⁿ]+", lambda found: f"^{{{found[0].translate(_SUPERSCRIPTS)}}}", text)
    text = re.sub("[₀-₉]+", lambda found: f"_{{{found[0].translate(_SUBSCRIPTS)}}}", text)
    text = re.sub("[¼-¾⅐-⅞]", _vulgar_fraction, text)
    text = unicodedata.normalize("NFKC", text.translate(_CHARACTERS)).translate(_CHARACTERS)
    for pattern, replacement in _SPELLINGS:
        text = pattern.sub(replacement, text)
    text = _REPEATING.sub(_repeating_decimal, text)
    text = text.strip(' *“”"`').rstrip(".,;:").strip(" *")
    while text.startswith("{") and (group := braced(text, 0)) and group[1] == len(text):
        text = group[0].strip()
    return text


def _vulgar_fraction(match: re.Match) -> str:
    top, bottom = unicodedata.normalize("NFKC", match[0]).split("⁄")
    return rf"\frac{{{top}}}{{{bottom}}}"


def _repeating_decimal(match: re.Match) -> str:
    r"""``0.1\overline{6}`` as ``\frac{1}{6}``."""
    fixed, repeated = match[2], match[3] or match[4]
    all_nines = 10 ** len(fixed) * (10 ** len(repeated) - 1)
    value = Fraction(int(match[1] + fixed + repeated) - int(match[1] + fixed or "0"), all_nines)
    return rf"\frac{{{value.numerator}}}{{{value.denominator}}}"


def squeeze(text: str) -> str:
    """`text` without white space, but for that between two digits, which keeps two numbers apart."""
    return re.sub(r"(?<!\d)\s+|\s+(?!\d)", "", text)


def thousands_readings(text: str) -> list[str]:
    """`text`, after the same without commas that may separate thousands: 58,500 can be 58500 or two parts.

    Within brackets a comma separates: (3,100) is a pair.
    """
    if enclosed(text):
        return [text]
    joined = _THOUSANDS.sub(lambda match: match.group().replace(",", ""), text)
    return [text] if joined == text else [joined, text]


@dataclass(frozen=True)
class Literal:
    """A number as written: its exact value, whether a percent sign follows, and how precisely it is stated.

    `unit` is the weight of the last digit of a decimal or scientific literal, None for integers and fractions.
    `digits` counts the significant digits of such a literal.
    """

    value: Fraction
    percent: bool
    unit: Fraction | None = None
    digits: int = 0


def read_literal(text: str) -> Literal | None:
    r"""The number that `text` (normalised) is, or None if it is anything but one literal.

    Integers, decimals, ``1.6e-19``, ``6 \times 10^{13}``, ``a/b``, ``\frac{a}{b}`` and mixed numbers such as
    ``137 \frac{1}{2}``, with sign and percent sign. Numbers beyond MAX_EXPONENT or MAX_LITERAL_CHARACTERS are None.
    """
    if len(text) > MAX_LITERAL_CHARACTERS:
        return None
    match = _LITERAL.fullmatch(squeeze(text))
    if match is None:
        return None
    group = match.groupdict()
    exponent = int(group["power"] or group["digits"] or group["exponent"] or 0)
    if abs(exponent) > MAX_EXPONENT:
        return None
    unit, digits = None, 0
    if group["bottom"] or group["right"]:
        top, bottom = Fraction(group["top"] or group["left"]), Fraction(group["bottom"] or group["right"])
        if bottom == 0 or (group["whole"] and not 0 <= top < bottom):
            return None
        value = top / bottom + int(group["whole"] or 0)
    else:
        number = group["mantissa"] or group["number"] or "1"
        value = Fraction(number) * Fraction(10) ** exponent
        if "." in number or exponent:
            unit = Fraction(10) ** (exponent - len(number.partition(".")[2]))
            digits = len(number.replace(".", "").lstrip("0"))
    return Literal(-value if group["sign"] == "-" else value, bool(group["percent"]), unit, digits)


def split_outside_brackets(text: str, separator: str) -> list[str]:
    r"""Pieces of `text` between matches of the regular expression `separator` that stand outside all brackets.

    ``(`` may be closed by ``]`` and ``[`` by ``)``, as in half-open intervals.
    """
    pieces, depth, start = [], 0, 0
    for token in re.finditer(rf"(?P<open>\\\{{|[(\[{{])|(?P<close>\\\}}|[)\]}}])|(?P<separator>{separator})|\\.", text):
        if token["open"]:
            depth += 1
        elif token["close"]:
            depth -= 1
        elif token["separator"] and depth == 0:
            pieces.append(text[start : token.start()])
            start = token.end()
    pieces.append(text[start:])
    return [piece.strip() for piece in pieces]


def enclosed(text: str) -> tuple[str, str, str] | None:
    r"""(opening bracket, content, closing bracket) where one pair of brackets encloses all of `text`, else None."""
    match = re.fullmatch(r"(\\\{|[(\[])(.*)(\\\}|[)\]])", text, re.DOTALL)
    if match is None:
        return None
    depth = 0
    for token in re.finditer(r"(?P<open>\\\{|[(\[{])|(?P<close>\\\}|[)\]}])|\\.", match[2]):
        depth += bool(token["open"]) - bool(token["close"])
        if depth < 0:
            return None
    return (match[1], match[2].strip(), match[3]) if depth == 0 else None


def parts(text: str) -> list[str]:
    r"""The values that an answer lists, in order; one for an answer that is no list.

    ``\{1, 2\}`` and ``1, 2`` list the same values. A single ``\pm`` stands for two values.
    """
    brackets = enclosed(text)
    if brackets and brackets[0] == r"\{" and not re.search(r"[:|]|\\mid", brackets[1]):
        return parts(brackets[1])
    found = []
    for part in split_outside_brackets(text, r"[,;]|\\lor\b"):
        if len(re.findall(r"\\[pm][mp](?![A-Za-z])", part)) == 1:
            found += [re.sub(r"\\[pm][mp](?![A-Za-z])", sign, part) for sign in "+-"]
        elif part:
            found.append(part)
    return found


def matrix(text: str) -> list[list[str]] | None:
    r"""The cells of ``\begin{pmatrix} ... \end{pmatrix}`` (or b, plain, array), row by row; None for anything else."""
    match = _MATRIX_ENVIRONMENT.fullmatch(text.strip("()[] "))
    if match is None or r"\begin" in match[2]:
        return None
    rows = [row for row in re.split(r"\\\\(?:\[[^\]]*\])?", match[2]) if row.strip()]
    return [[cell.strip() for cell in row.split("&")] for row in rows]
