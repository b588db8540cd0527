r"""Maths answers: the final answer of a response against the accepted ones, compared in a grader process."""

import ast
import json
import math
import re
from decimal import Decimal
from numbers import Real

from balanced_agg.rewards.final_answer import final_answer, stated_answer
from balanced_agg.rewards.grader_processes import shared_processes
from balanced_agg.rewards.quantities import same_number

# Golds of Minerva-Math are numbers computed from rounded constants. 1e-4 is the tolerance of Qwen2.5-Math's
# evaluation code, where Minerva figures commonly come from. Answers of the other sets are exact.
RELATIVE_TOLERANCE = {"minerva": 1e-4}


def is_right(response: str, ground_truth: object, data_source: str, time_limit: float, processes: int) -> bool:
    """Whether the final answer of the response equals one of those that the ground truth accepts.

    Of DAPO's answers number literals are compared right here; only the rest goes to a grader process, as all others do.
    GraderFailed if that was not found out, ValueError as in `accepted_answers`.
    """
    accepted = accepted_answers(ground_truth)
    answer = stated_answer(response) if data_source == "math_dapo" else final_answer(response)
    if answer is None:
        return False
    if data_source == "math_dapo":
        comparisons = [same_number(gold, answer) for gold in accepted]
        if True in comparisons or None not in comparisons:
            return True in comparisons
    graders = shared_processes(processes)
    return graders.equals_any(accepted, answer, RELATIVE_TOLERANCE.get(data_source, 0.0), time_limit)


def accepted_answers(ground_truth: object) -> list[str]:
    """The answers of which any one suffices.

    A JSON list of strings, the text of a Python list of strings, or a list or tuple of strings is a choice; any
    other string is one answer (also ``[1, 2]``, an interval). A finite number (int, float, numpy's scalars) is one
    answer, in its shortest decimal writing. ValueError if there is none, or anything else.
    """
    if isinstance(ground_truth, Real) and not isinstance(ground_truth, bool) and abs(ground_truth) < math.inf:
        written = str(ground_truth + 0)  # without the sign of -0.0
        ground_truth = (f"{Decimal(written):f}" if "e" in written else written).removesuffix(".0")
    if isinstance(ground_truth, str):
        answers = _written_list(ground_truth.strip()) or [ground_truth]
    elif isinstance(ground_truth, list | tuple):
        answers = list(ground_truth)
    else:
        raise ValueError(f"ground_truth must be a string, a finite number or a list of strings, got {ground_truth!r}")
    if not answers or not all(isinstance(answer, str) and answer.strip() for answer in answers):
        raise ValueError(f"ground_truth must hold one answer or several, none of them empty, got {ground_truth!r}")
    return [answer.strip() for answer in answers]


def _written_list(text: str) -> list[str] | None:
    if not re.fullmatch(r"\[\s*[\"'].*[\"']\s*,?\s*\]", text, re.DOTALL):
        return None
    for read in (json.loads, ast.literal_eval):
        try:
            found = read(text)
        except (ValueError, SyntaxError):
            continue
        if all(isinstance(answer, str) for answer in found):
            return found
    return None
