"""Minerva-Math (benchmark): questions from MIT's open courses; numbers, formulas, units.

Copies differ. The answer is a text, a list of forms each of which is accepted, or only in the solution's last box.
"""

import json

from balanced_agg.data.dataset import (
    Dataset,
    Problem,
    Row,
    Unusable,
    boxed_problem,
    identifier,
    last_box,
    pick,
    required,
    text,
)


def convert(row: Row) -> Problem:
    given = pick(row, "answer", "solution")
    forms = [text(form, "answer") for form in (given if isinstance(given, list) else [given])]
    if "answer" not in row or not any(forms):
        forms = [last_box(text(row.get("solution"), "solution"))]
    forms = list(dict.fromkeys(form for form in forms if form))
    if not forms:
        raise Unusable("no answer, and no box in the solution")
    return boxed_problem(
        required(row, "problem", "question"),
        forms[0] if len(forms) == 1 else json.dumps(forms, ensure_ascii=False),
        id=identifier(row, "id", "idx"),
    )


DATASET = Dataset(
    name="minerva",
    about="Minerva-Math, benchmark: university science, units, several accepted forms",
    data_source="minerva",
    source="math-ai/minervamath",
    split="test",
    files="*.jsonl",
    convert=convert,
    k=4,
    problems=(272,),
    aliases=("minerva",),
)
