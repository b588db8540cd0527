"""Where in a response the program stands. Text only: nothing is run here."""

import ast
import re
import textwrap
from collections.abc import Iterator
from itertools import chain, islice

from balanced_agg.rewards.final_answer import after_thinking

# A line that ends in a fence and what names its language. Neither is inside a longer run of the same character.
_FENCE = re.compile(r"(?<![`~])(`{3,}+|~{3,}+)([^`~]*)$")
# What may stand before a fence at the beginning of a line: indentation, quotation and list marks.
_MARKS = re.compile(r"(?:\s|[-*+>]|\d{1,9}[.)])*")
# python, Python 3, python3.11, pypy3, py, python:main.py, {python}, {.python .numberLines}, main.py; not pycon.
_PYTHON = re.compile(
    r"[\s{.]*(?:language-)?(?:[ci]?python|pypy|py)[\s_-]?[\d.]*(?![\w+#-])|\s*[\w./-]+\.py\s*$", re.IGNORECASE
)
# No sentence: one word, which a version, classes and attributes may follow.
_NAME = re.compile(r"\s*[\w.:/+#={},-]*(?:\s+(?:[\d.#{]|[\w-]+=)\S*)*\s*")
MAX_ENDS = 16  # fences in the strings of one program that are looked past


def last_program(response: str) -> str | None:
    """The last block of Python after the thinking, or else the last block that names no language; None without one.

    Blocks are those of CommonMark (of backticks or tildes, the closing fence no shorter than the opening one), and
    what models write beside it: backticks may open a block behind words and close one behind code, and a fence that
    names a language also ends the block before it. A block that is never closed reaches to the end of the response.
    Blank blocks do not count. A program that is indented as a whole, or quoted, is returned without that.
    """
    python, unnamed = None, None
    lines = after_thinking(response).split("\n")
    position = 0
    while position < len(lines):
        opening = _opening(lines[position])
        position += 1
        if opening is None:
            continue
        program, position = _block(lines, position, opening)
        if program.strip() and _PYTHON.match(opening[2]):
            python = program
        elif program.strip() and not opening[2].strip():
            unnamed = program
    return unnamed if python is None else python


def _opening(line: str) -> tuple[str, str, str] | None:
    """What stands before an opening fence, the fence, and what names its language; None if the line has none."""
    found = _FENCE.search(line)
    if not found:
        return None
    before, (fence, info) = line[: found.start()], found.groups()
    behind_words = fence[0] == "`" and "```" not in before and _NAME.fullmatch(info)
    if behind_words or _MARKS.fullmatch(before):
        return before, fence, info
    return None


def _block(lines: list[str], start: int, opening: tuple[str, str, str]) -> tuple[str, int]:
    """The block whose first line is `start`, and the line after its end.

    It ends at the first fence that may end it, but goes on where that fence is inside a string: where the text is no
    Python up to there, and is up to a later fence, since no fence is Python outside a string.
    """
    ends = _ends(lines, start, opening)
    first = next(ends)
    if "'''" in first[0] or '"""' in first[0]:
        for program, end in chain([first], islice(ends, MAX_ENDS)):
            if _is_python(program):
                return program, end
    return first


def _ends(lines: list[str], start: int, opening: tuple[str, str, str]) -> Iterator[tuple[str, int]]:
    """Each way to end a block, the shortest first: its text, and the line after it."""
    before, fence, info = opening
    for number in range(start, len(lines)):
        found = _opening(lines[number])
        if found is None:
            continue
        begins_line = bool(_MARKS.fullmatch(found[0]))
        ends = found[1].startswith(fence)
        if _PYTHON.match(found[2]) and (not _PYTHON.match(info) or (ends and begins_line)):
            yield _text(lines[start:number], before), number
        elif ends and begins_line:
            is_name = found[2].strip() and _NAME.fullmatch(found[2])
            yield _text(lines[start:number], before), number if is_name else number + 1
        elif ends and not found[2].strip() and "#" not in found[0]:
            yield _text([*lines[start:number], found[0]], before), number + 1
    yield _text(lines[start:], before), len(lines)


def _text(lines: list[str], before: str) -> str:
    """The lines without the quotation marks and the indentation that they share with their opening fence."""
    if ">" in before and _MARKS.fullmatch(before):
        lines = [re.sub(r"^\s*> ?", "", line) for line in lines]
    text = "\n".join(lines)
    first = next(filter(str.strip, lines), "")
    return textwrap.dedent(text) if first[:1].isspace() else text


def _is_python(text: str) -> bool:
    try:
        ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True
