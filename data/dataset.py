"""What a data set is, and how its converter reads the fields of a source's row."""

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

Row = dict[str, Any]

PICTURE = re.compile(r"<img|<image|!\[|\\includegraphics", re.IGNORECASE)


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


def pick(row: Row, *names: str) -> Any:
    """The first of these fields that the row has, whatever its case. ValueError if it has none of them."""
    by_name = {name.lower(): value for name, value in row.items()}
    for name in names:
        if name in by_name:
            return by_name[name]
    raise ValueError(f"expected a field {' or '.join(map(repr, names))}, found {sorted(row)}")


def text(value: Any, what: str) -> str:
    """A field as text without outer white space; "" for a missing one. Unusable for lists, booleans and the like."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, int | float) and not isinstance(value, bool):
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


def boxed_problem(problem: str, answer: str, **further: Any) -> Problem:
    r"""A maths problem whose prompt asks for the answer in a box. Unusable if the problem refers to a picture.

    All maths but DAPO-Math-17k, for training and for validation alike, asks in Polaris' words:

    - one wording for all five maths benchmarks makes the recipes' tables comparable, whatever they trained on;
    - most answers there are LaTeX, which a box delimits and a line of text does not;
    - Qwen2.5-Math's own chat template asks for a box.

    A policy trained on DAPO-Math-17k, whose prompts ask for a last line "Answer: 7", is thus validated on a prompt that
    it was not trained on. If it answers in its own way all the same, that counts: the maths grader reads both.
    """
    if PICTURE.search(problem):
        raise Unusable("needs a picture")
    content = f"{problem} Let's think step by step and output the final answer within \\boxed{{}}."
    return Problem([{"role": "user", "content": content}], answer, **further)


def boxed_row(row: Row) -> Problem:
    """A row with a problem and one answer, whichever of their usual names the fields have."""
    return boxed_problem(
        required(row, "problem", "question"),
        required(row, "answer", "final_answer"),
        id=identifier(row, "unique_id", "id", "ID"),
    )
