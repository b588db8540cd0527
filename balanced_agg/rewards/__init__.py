"""Rule-based rewards in the shape that verl calls."""

from collections.abc import Callable
from typing import Any

from balanced_agg.arithmetic.problems import is_correct

# data_source -> whether a response text is right, given the ground truth
GRADERS: dict[str, Callable[[str, str], bool]] = {"arithmetic": is_correct}


def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: str,
    extra_info: dict[str, Any] | None = None,
    **kwargs: Any,
) -> dict[str, float]:
    """Reward of one response: 1.0 if it is right, else 0.0, both as "score" and as "acc".

    verl trains on "score" and reports "acc" in validation. `extra_info` and further keywords are what
    verl passes along; no grader here uses them. A response without a final answer scores 0.0.

    ValueError if there is no grader for `data_source`.
    """
    if data_source not in GRADERS:
        raise ValueError(f"no grader for data_source {data_source!r}; known ones are {sorted(GRADERS)}")
    score = float(GRADERS[data_source](solution_str, ground_truth))
    return {"score": score, "acc": score}
