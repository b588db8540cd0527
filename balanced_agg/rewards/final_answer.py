r"""Where in a response the final answer stands. Text only: nothing is evaluated here."""

import re

# Answers stand at the end. The bound keeps every regular expression below cheap on runaway responses.
TAIL_CHARACTERS = 20_000
MAX_LINE_CHARACTERS = 2_000

_BOX = re.compile(r"\\(?:boxed|fbox)\s*")
_BETWEEN_BOXES = re.compile(
    r"(?:[\s$.*~&,;]|\\[()\[\]\\,;:! ]|\\q?quad\b|\\(?:text|mathrm)\s*\{[\s,]*(?:and|or)?[\s,]*\}|\b(?:and|or)\b"
    r"|\b[A-Za-z](?:_\w)?\s*=)*"
)
_JOINS = re.compile(r"[,;]|and|or")
_ANCHOR = re.compile(r"answer[^\n.:=]{0,40}?(?:\bis\b[ \t]*:?|:|=)(?:[ \t]*\*\*)?", re.IGNORECASE)
_ANSWER_LINE = re.compile(r"answer\s*\**\s*:[\s*]*([^\n]*)", re.IGNORECASE)
_SENTENCE_END = re.compile(r"\.(?:\s|$)|,?\s+(?:because|since|which|so)\s")
_MATHS = re.compile(r"\$\$([^$]+)\$\$|\$([^$\n]+)\$|\\\(([^\n]+?)\\\)|\\\[([^\n]+?)\\\]")
# A formula in lines of its own
_DISPLAY = re.compile(r"\s*(?:\*\*)?\s*(?:\\\[(.*?)\\\]|\$\$(.*?)\$\$)", re.DOTALL)
_DISPLAY_AT_END = re.compile(r"(?:\\\[((?:(?!\\[\[\]]).)*)\\\]|\$\$([^$]*)\$\$)[\s.]*$", re.DOTALL)
_NUMBER = re.compile(r"(?<![\w.])-?\$?(?:\d[\d,]*(?:\.\d+)?|\.\d+)(?:/\d+)?%?")


def after_thinking(response: str) -> str:
    """What follows the last ``</think>``, or all of a response that does not think.

    A response that begins with ``<think>`` and never closes it was cut off before it gave an answer:
    empty. (Where the prompt has already opened the tag, such a response cannot be told from another.)
    """
    _, closed, after = response.rpartition("</think>")
    if closed:
        return after
    return "" if response[:100].lstrip().startswith("<think>") else response


def braced(text: str, start: int) -> tuple[str, int] | None:
    """Content of the brace group that opens at `start` and where it ends; None if it never closes."""
    depth = 0
    for position in range(start, len(text)):
        if text[position] in "{}" and (position == 0 or text[position - 1] != "\\"):
            depth += 1 if text[position] == "{" else -1
            if depth == 0:
                return text[start + 1 : position], position + 1
    return None


def boxed(text: str) -> str | None:
    r"""Content of the last ``\boxed{...}``, "" where that one is never closed, None where there is no box.

    ``\boxed{69} and \boxed{84}`` is one answer of two parts: "69, 84". ``\boxed 5`` is read as TeX does.
    """
    answer: str | None = None
    next_box = len(text)
    for match in reversed(list(_BOX.finditer(text))):
        start = match.end()
        if text[start : start + 1] == "{":
            content, end = braced(text, start) or ("", next_box)
        else:
            content, end = text[start : start + 1], start + 1
        if answer is None:
            answer = content
        elif end <= next_box and _BETWEEN_BOXES.fullmatch(between := text[end:next_box]) and _JOINS.search(between):
            answer = f"{content}, {answer}"
        else:
            break
        next_box = match.start()
    return answer


def _unboxed(text: str) -> str | None:
    """What "... answer is X" or "Answer: X" announces last; else the last formula or number of the last line."""
    anchors = list(_ANCHOR.finditer(text))
    if anchors:
        after = text[anchors[-1].end() :]
        if display := _DISPLAY.match(after):
            return display[1] or display[2]
        line = next((line for line in map(str.strip, after.splitlines()) if line), "")[:MAX_LINE_CHARACTERS]
        return _SENTENCE_END.split(line, maxsplit=1)[0] or None
    if display := _DISPLAY_AT_END.search(text[-MAX_LINE_CHARACTERS:]):
        return display[1] or display[2]
    line = next((line for line in reversed(text.splitlines()) if line.strip()), "")[-MAX_LINE_CHARACTERS:]
    found = [next(filter(None, groups)) for groups in _MATHS.findall(line)] or _NUMBER.findall(line)
    return found[-1] if found else None


def final_answer(response: str) -> str | None:
    """The text of the answer that a response ends in, or None.

    The last box counts if there is any: an empty or unclosed one means no answer, whatever stood before
    it. Without a box it is what `_unboxed` finds. Only the last TAIL_CHARACTERS are read.
    """
    text = after_thinking(response)[-TAIL_CHARACTERS:]
    answer = boxed(text)
    if answer is None:
        answer = _unboxed(text)
    return answer.strip() or None if answer else None


def stated_answer(response: str) -> str | None:
    r"""Where DAPO's prompt asks for it: what follows the last "Answer:" in its line, or a ``\boxed{}`` after that.

    None where the response has neither, where both are empty, or where that line is longer than an answer can be.
    """
    text = after_thinking(response)[-TAIL_CHARACTERS:]
    *_, last = [None, *_ANSWER_LINE.finditer(text)]
    answer = boxed(text[last.start() :] if last else text)
    if answer is None and last:
        display = _DISPLAY.match(text, last.start(1))
        answer = (display[1] or display[2]) if display else last[1]
    answer = (answer or "").strip()
    return answer if 0 < len(answer) <= MAX_LINE_CHARACTERS else None
