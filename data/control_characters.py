r"""LaTeX whose backslashes were read as escapes: "\frac" in a string literal is a form feed and "rac".

A control character that nobody types (bell, backspace, vertical tab, form feed) becomes a backslash and its
letter where that makes a command. Tabs, line feeds and carriage returns are also white space: what follows decides.
"""

import re
from typing import Any

# A file read in text mode has a line feed for a carriage return.
LETTERS = {"\a": "a", "\b": "b", "\t": "t", "\n": "nr", "\v": "v", "\f": "f", "\r": "r"}
COMMANDS = frozenset(
    """
    acute aleph alpha amalg angle approx approxeq arccos arcsin arctan arg array ast asymp
    backslash bar barwedge because begin beta beth between bf big bigcap bigcirc bigcup bigg biggl biggr bigl
    bigodot bigoplus bigotimes bigr bigsqcup bigstar bigtriangledown bigtriangleup bigvee bigwedge binom
    blacksquare bm bmod bold boldsymbol bot bowtie boxed boxplus boxtimes breve bullet bumpeq
    fallingdotseq fbox flat footnotesize forall frac frown
    nabla natural ncong ne nearrow neg neq newline nexists ngeq ngtr ni nleq nless nmid noindent nolimits
    nonumber normalsize not notag notin nparallel nprec nsim nsubseteq nsucc nsupseteq ntriangleleft
    ntriangleright nu nwarrow
    raisebox rangle rbrace rbrack rceil rfloor rgroup rho right rightarrow rightarrowtail rightharpoondown
    rightharpoonup rightleftarrows rightleftharpoons rightsquigarrow rlap rm rmoustache root rtimes rule rvert
    rVert
    tag tan tanh tau tbinom text textbf textit textnormal textrm textsc textsf textstyle textsuperscript texttt
    textup tfrac therefore theta thickapprox thicksim thinspace tilde times tiny to top triangle triangledown
    triangleleft trianglelefteq triangleq triangleright trianglerighteq twoheadrightarrow
    vDash varepsilon varkappa varnothing varphi varpi varpropto varrho varsigma vartheta vartriangle vcenter
    vdash vdots vec vee veebar vert verb vphantom vspace
    """.split()  # noqa: SIM905
)
# What commands leave after a tab, line feed or carriage return and could also be written there: these words, and
# products of one or two variables.
WORDS = re.compile(
    r"\w{1,2}|angle|brace|ceil|exists|ext|floor|group|lap|less|mid|moustache|parallel|prec|sim|times|vert"
)
GOLDS = {"answer", "final_answer", "ground_truth"}

_UNTYPED = re.compile(r"[\a\b\v\f]([A-Za-z]+)")
_TYPED = re.compile(r"[\t\n\r]([a-zV][A-Za-z]*)")  # of \rVert: no other command goes on with a capital
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
# A price ("$5 or $10") opens no formula.
_FORMULA = re.compile(
    r"\$\$.+?\$\$|(?<!\\)\$(?:\\.|[^$\\])+\$(?!\d)|\\\(.{1,5000}?\\\)|(?<!\\)\\\[.{1,5000}?\\\]"
    r"|\\begin\{(\w{1,20}\*?)\}.{1,5000}?\\end\{\1\}",
    re.DOTALL,
)
# After these a line feed in a formula is one.
_END_OF_LINE = re.compile(r"(?:\n|\\\\|\$\$|(?<!\\)\\\[|\\begin\{\w+\*?\}(?:[\[{][^\]}]*[\]}])?)[ \t]*\Z")
SNIPPET = 15  # characters on either side of a doubtful one


def restore_row(row: Any, name: str = "") -> Any:
    """The row, or a value in it, with the backslashes restored in all its texts."""
    if isinstance(row, str):
        return restore(row, name.lower() in GOLDS)[0]
    if isinstance(row, list):
        return [restore_row(value, name) for value in row]
    if isinstance(row, dict):
        return {key: restore_row(value, key) for key, value in row.items()}
    return row


def restore(text: str, gold: bool = False) -> tuple[str, list[str]]:
    r"""The text with the backslashes restored that were surely there, and each doubtful character and its context.

    Surely: a character that nobody types, before what makes it a command; white space before what is nothing without
    its first letter ("heta"); and in a formula also before a word or two variables ("an", "eq"), unless a line may end
    there. Doubtful: such a line end in a formula ("u", of "\nu"?), and all other control characters.

    Args:
        gold: the text is one formula, unless it has dollars.
    """
    if text.isprintable() or not (_CONTROL.search(text) or any(map(_command, _TYPED.finditer(text)))):
        return text, []
    text = _UNTYPED.sub(lambda match: _command(match) or match[0], text)
    formulas = [(0, len(text))] if gold and "$" not in text else [match.span() for match in _FORMULA.finditer(text)]
    doubtful = [match.start() for match in _CONTROL.finditer(text)]
    carriage_returns_end_lines = any("r" + tail not in COMMANDS for tail in re.findall(r"\r(?!\n)([A-Za-z]*)", text))

    def decide(match: re.Match) -> str:
        character, tail, start = match[0][0], match[1], match.start()
        command = _command(match)
        if command is None or not WORDS.fullmatch(tail) or text.startswith("{", match.end()):
            return command or match[0]
        if not any(first <= start < last for first, last in formulas):
            return match[0]
        before = text[:start]
        if character == "\n":
            if tail in ("eq", "ot"):
                return command
            if not _END_OF_LINE.search(before[-80:]):
                doubtful.append(start)
            return match[0]
        if carriage_returns_end_lines if character == "\r" else before.rstrip(" \t").endswith("\n"):
            doubtful.append(start)
            return match[0]
        return command

    restored = _TYPED.sub(decide, text)
    around = [(start, text[max(0, start - SNIPPET) : start + SNIPPET]) for start in sorted(doubtful)]
    return restored, [f"U+{ord(text[start]):04X} in {snippet!r}" for start, snippet in around]


def _command(match: re.Match) -> str | None:
    """The command that a control character and the letters after it were."""
    letter, *others = LETTERS[match[0][0]]
    names = [letter + match[1]] + [other + match[1] for other in others if not WORDS.fullmatch(match[1])]
    return next(("\\" + name for name in names if name in COMMANDS), None)
