"""Maths: two sets to train on and five benchmarks, and how a row of each source becomes a problem."""

import json
import re

from balanced_agg.data.dataset import (
    Dataset,
    Problem,
    Row,
    Unusable,
    boxed_problem,
    boxed_row,
    identifier,
    is_message,
    pick,
    required,
    text,
    unwrapped,
)


def dapo_problem(row: Row) -> Problem:
    """The prompt as shipped: its "… The last line of your response should be of the form Answer: …" fits the reward."""
    messages, reward_model, extra_info = pick(row, "prompt"), pick(row, "reward_model"), row.get("extra_info")
    if not isinstance(messages, list) or not all(map(is_message, messages)):
        raise Unusable("the prompt is not a list of messages")
    if not any(message["content"].strip() for message in messages):
        raise Unusable("no prompt")
    if not isinstance(reward_model, dict):
        raise Unusable("reward_model has no fields")
    return Problem(
        [{"role": message["role"], "content": message["content"]} for message in messages],
        required(reward_model, "ground_truth"),
        id=identifier(extra_info, "index") if isinstance(extra_info, dict) else "",
    )


def olympiad_problem(row: Row) -> Problem:
    row = unwrapped(row)
    modality = text(row.get("modality"), "modality")
    if modality and modality.lower() != "text-only":
        raise Unusable("needs a picture")
    context = text(row.get("context"), "context")
    question = required(row, "question", "problem")
    answers = pick(row, "final_answer", "answer")
    answers = answers if isinstance(answers, list) else [answers]
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


def minerva_problem(row: Row) -> Problem:
    """The answer is a text, a list of forms each of which is accepted, or only in the solution's last box."""
    row = unwrapped(row)
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


def last_box(solution: str) -> str:
    r"""What the last complete \boxed{…} of a solution holds, or ""."""
    opened: list[int] = []
    start = end = 0
    for brace in re.finditer(r"(?<!\\)[{}]", solution):
        if brace[0] == "{":
            opened.append(brace.end())
        elif opened and solution.endswith(r"\boxed{", 0, at := opened.pop()) and at > start:
            start, end = at, brace.start()
    return solution[start:end].strip()


DAPO17K = Dataset(
    name="dapo17k",
    about="DAPO-Math-17k, training: integer answers",
    source="BytedTsinghua-SIA/DAPO-Math-17k",
    split="train",
    convert=dapo_problem,
    data_source="math_dapo",
    files="data/*.parquet",
    # The hub's file repeats 17 917 (prompt, answer) pairs 100 times. They have this number of distinct prompts, before
    # those with more than one answer are dropped.
    problems=(17_398,),
    asserted=True,
    aliases=("dapomath17k",),
)
POLARIS = Dataset(
    name="polaris",
    about="Polaris-Dataset-53K, training: free-form LaTeX answers",
    source="POLARIS-Project/Polaris-Dataset-53K",
    split="train",
    convert=boxed_row,
    files="*.jsonl",
)
MATH_500 = Dataset(
    name="math_500",
    about="MATH-500, benchmark: LaTeX answers",
    source="HuggingFaceH4/MATH-500",
    split="test",
    convert=boxed_row,
    files="*.jsonl",
    k=4,
    problems=(500,),
)
AIME_2024 = Dataset(
    name="aime_2024",
    about="AIME 2024, benchmark: integers from 0 to 999",
    source="Maxwell-Jia/AIME_2024",
    split="train",
    convert=boxed_row,
    k=32,
    problems=(30,),
    aliases=("aime24",),
)
AIME_2025 = Dataset(
    name="aime_2025",
    about="AIME 2025, benchmark: integers from 0 to 999",
    source="math-ai/aime25",
    split="test",
    convert=boxed_row,
    k=32,
    problems=(30,),
    aliases=("aime25",),
)
OLYMPIADBENCH = Dataset(
    name="olympiadbench",
    about="OlympiadBench, benchmark: English text-only competition maths, several answers, units",
    source="Hothan/OlympiadBench",
    config="OE_TO_maths_en_COMP",
    split="train",
    convert=olympiad_problem,
    files="OE_TO_maths_en_COMP/*.parquet",
    k=4,
    problems=(674, 675),
    aliases=("olympiad",),
)
MINERVA = Dataset(
    name="minerva",
    about="Minerva-Math, benchmark: university science, units, several accepted forms",
    source="math-ai/minervamath",
    split="test",
    convert=minerva_problem,
    files="*.jsonl",
    k=4,
    problems=(272,),
)
