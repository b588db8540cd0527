"""What a data set is, and how its converter reads the fields of a source's row."""

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

Row = dict[str, Any]

# A "![" right after a letter or a number is a factorial, unless a link follows. Repetitions are bounded, since a
# text may consist of beginnings.
PICTURE = re.compile(
    r"<img\b|<image(?:[\s_-]?\d*\s*/?>|\s+\w+=)|(?<![\w)}\]$!])!\[|!\[[^\]]{0,300}\]\((?=[^)\s]{0,300}[./:])[^)]{0,3000}\)"
    r"|\\includegraphics\*?\s*(?:\[[^\]]{0,300}\]\s*)*\{(?![^}]{0,300}\}\s*\\nonessentialimage)",
    re.IGNORECASE,
)
# A part that is solved in the problem's text: what its solution shows is not needed for the next part.
SOLUTION, NEXT_PART = re.compile(r"[ \t]*Solution:"), re.compile(r"[ \t]*(?:Final answer:|Subproblem \d+:)")
BOX = "Let's think step by step and output the final answer within \\boxed{}."
# What data sets in verl's schema put before and behind a question …
LEADING = re.compile(
    r"\A(?:Please )?(?:solve|answer) (?:the|this) (?:following )?(?:math(?:s|ematical)? )?(?:problem|question)\b"
    r"(?=[^\n]*(?:step by step|boxed|Answer:))[^\n]*\n+",
    re.IGNORECASE,
)
TRAILING = re.compile(  # a sentence of them, of at most LONGEST_SENTENCE characters
    r"(?<!\S)(?:Let(?:'?s| us) think|Please (?:reason|think|put|provide)|(?:Remember to )?put (?:your|the))\b"
    r"[^\n.?!]{0,120}(?:\\boxed|####|Answer:|step by step)[^\n.?!]{0,40}[.?!]?\Z",
    re.IGNORECASE,
)
LONGEST_SENTENCE = 250
# … and what is left of those that are not like that.
INSTRUCTION = re.compile(r"\\boxed\s*\{\s*\}|step by step|####|Answer:|<\|im_|<think>|<answer>", re.IGNORECASE)
RAW_TEXT = "raw_problem", "problem", "question"  # where in extra_info such data sets have the question alone


class Unusable(Exception):
    """This row cannot be a problem; the message is the reason, the same text for all rows with that reason."""


@dataclass(frozen=True)
class Problem:
    """One problem as its source has it.

    `ground_truth` is what the grader of the data set gets. `key` is what makes two rows the same problem: the
    text of the prompt unless the source has its own notion. `unit` and `answer_type` are for graders.
    """

    messages: list[dict[str, str]]
    ground_truth: str
    id: str = ""
    key: str = ""
    unit: str | None = None
    answer_type: str | None = None


@dataclass(frozen=True)
class Dataset:
    """Where a data set comes from and what it becomes.

    Args:
        source: id on the Hugging Face hub; with `generate`, what generates it.
        convert: one row of the source to a problem. Raises Unusable for a row, and ValueError for a source
            that lacks a field.
        data_source: which grader; "" means the data set's name.
        files: of the hub's repository, for those who download by hand; "" means all.
        k: samples for each problem in validation; None for training sets.
        problems: how many distinct problems the complete source has, in any of its known copies.
        asserted: whether another number on the hub is an error and not a warning.
        aliases: how file names for `--source` begin besides `name`, in lower-case letters and digits only.
        generate: rows of a data set that needs no source.
        instruction: what the prompts end in, behind the question.
    """

    name: str
    about: str
    source: str
    split: str
    convert: Callable[[Row], Problem]
    data_source: str = ""
    files: str = ""
    config: str | None = None
    ability: str = "math"
    k: int | None = None
    problems: tuple[int, ...] = ()
    asserted: bool = False
    aliases: tuple[str, ...] = ()
    generate: Callable[[], Iterable[Row]] | None = None
    instruction: str = BOX


def pick(row: Row, *names: str) -> Any:
    """The first of these fields that the row has, whatever its case. ValueError if it has none of them."""
    by_name = {name.lower(): value for name, value in row.items()}
    for name in names:
        if name in by_name:
            return by_name[name]
    raise ValueError(f"expected a field {' or '.join(map(repr, names))}, found {sorted(row)}")


def text(value: Any, what: str) -> str:
    """A field as text without outer white space; "" for a missing one. Unusable for lists, booleans and the like.

    A number is what its source writes, as far as that is known: JSON's 12.0 stays that. A column of floats does not
    know, and 12.0 in it becomes 12, since integers with a gap among them are floats, too.
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, str):
        return value.strip()
    if type(value) is float and value.is_integer() and abs(value) < 2**53:
        return str(int(value))
    if isinstance(value, int | float | Decimal) and not isinstance(value, bool):
        return str(value)
    raise Unusable(f"the {what} is not text but {type(value).__name__}")


def required(row: Row, *names: str) -> str:
    """`text` of `pick`. Unusable if it is empty."""
    value = text(pick(row, *names), names[0])
    if not value:
        raise Unusable(f"no {names[0]}")
    return value


def identifier(row: Row, *names: str) -> str:
    """The source's own name of a row, or "" if it has none."""
    return next((str(row[name]) for name in names if row.get(name) is not None), "")


def is_message(message: object) -> bool:
    return isinstance(message, dict) and all(isinstance(message.get(key), str) for key in ("role", "content"))


def in_verl_schema(row: Row) -> bool:
    return "prompt" in row and isinstance(row.get("reward_model"), dict)


def unwrapped(row: Row) -> Row:
    """A row in verl's schema as one of problem, answer and what else is known of it; any other row as it is.

    The problem is the row's raw text, if that is in the prompt, else the prompt without the instructions around it;
    such as are not known here stay. Unusable if the prompt is not one question.
    """
    if not in_verl_schema(row) or any(row[name] for name in row if name.lower() in ("problem", "question")):
        return row
    messages = row["prompt"]
    if not isinstance(messages, list) or not all(map(is_message, messages)):
        raise Unusable("the prompt is not a list of messages")
    asked = [message["content"].strip() for message in messages if message["role"] != "system"]
    if len(asked) != 1:
        raise Unusable("the prompt is not one question")
    known = row["extra_info"] if isinstance(row.get("extra_info"), dict) else {}
    raw = [known[name].strip() for name in RAW_TEXT if isinstance(known.get(name), str)]
    question = next((part for part in raw if part and part in asked[0]), without_instructions(asked[0]))
    answer = pick(row["reward_model"], "ground_truth")
    if isinstance(answer, list) and len(answer) == 1:
        (answer,) = answer
    return {
        **{name: question for name in ("problem", "question")},
        **{name: answer for name in ("answer", "final_answer")},
        **{name: known.get(name) for name in ("unit", "answer_type")},
        "id": identifier(known, "id", "index"),
    }


def without_instructions(prompt: str) -> str:
    """A question without the instructions around it."""
    question = LEADING.sub("", prompt)
    while found := TRAILING.search(end := question.rstrip(), max(0, len(end) - LONGEST_SENTENCE)):
        question = end[: found.start()].rstrip()
    return question


def without_solved_parts(problem: str) -> str:
    kept, solution = [], None
    for line in problem.split("\n"):
        if NEXT_PART.match(line):
            solution = None
        elif solution is None and SOLUTION.match(line):
            solution = []
        (kept if solution is None else solution).append(line)
    return "\n".join(kept + (solution or []))


def boxed_problem(problem: str, answer: str, **further: Any) -> Problem:
    r"""A maths problem whose prompt asks for the answer in a box. Unusable if the problem refers to a picture.

    All maths but DAPO-Math-17k, for training and for validation alike, asks in Polaris' words:

    - one wording for all five maths benchmarks makes the recipes' tables comparable, whatever they trained on;
    - most answers there are LaTeX, which a box delimits and a line of text does not;
    - Qwen2.5-Math's own chat template asks for a box.

    A policy trained on DAPO-Math-17k, whose prompts ask for a last line "Answer: 7", is thus validated on a prompt that
    it was not trained on. If it answers in its own way all the same, that counts: the maths grader reads both.
    """
    if PICTURE.search(without_solved_parts(problem)):
        raise Unusable("needs a picture")
    return Problem([{"role": "user", "content": f"{problem} {BOX}"}], answer, **further)


def boxed_row(row: Row) -> Problem:
    """A row with a problem and one answer, whichever of their usual names the fields have, or in verl's schema."""
    row = unwrapped(row)
    return boxed_problem(
        required(row, "problem", "question"),
        required(row, "answer", "final_answer"),
        id=identifier(row, "unique_id", "id", "ID"),
    )
