"""OlympiadBench (benchmark): its open-ended, text-only, English competition maths.

Copies have 674 or 675 rows.
"""

from balanced_agg.data.dataset import Dataset, Problem, Row, Unusable, boxed_problem, identifier, pick, required, text


def convert(row: Row) -> Problem:
    modality = text(row.get("modality"), "modality")
    if modality and modality.lower() != "text-only":
        raise Unusable("needs a picture")
    context = text(row.get("context"), "context")
    question = required(row, "question", "problem")
    answers = pick(row, "final_answer", "answer")
    if not isinstance(answers, list):
        answers = [answers]
    parts = [part for part in (text(answer, "final_answer") for answer in answers) if part]
    if not parts:
        raise Unusable("no final_answer")
    return boxed_problem(
        f"{context}\n\n{question}" if context else question,
        ",".join(parts),  # parts of one answer: all of them have to be given
        id=identifier(row, "id"),
        unit=text(row.get("unit"), "unit") or None,
        answer_type=text(row.get("answer_type"), "answer_type") or None,
    )


DATASET = Dataset(
    name="olympiadbench",
    about="OlympiadBench, benchmark: English text-only competition maths, several answers, units",
    data_source="olympiadbench",
    source="Hothan/OlympiadBench",
    config="OE_TO_maths_en_COMP",
    split="train",
    files="OE_TO_maths_en_COMP/*.parquet",
    convert=convert,
    k=4,
    problems=(674, 675),
    aliases=("olympiadbench",),
)
