"""Rule-based rewards in the shape that verl calls, for training and for validation."""

import logging
from collections.abc import Sequence
from typing import Any

from balanced_agg.arithmetic import problems, search
from balanced_agg.rewards import gsm8k, maths
from balanced_agg.rewards.errors import GraderFailed

logger = logging.getLogger(__name__)

# Free-form answers, compared by math-verify
MATHS_SOURCES = ("polaris", "math_500", "aime_2024", "aime_2025", "olympiadbench", "minerva", "amc", "math_dapo")
KNOWN_SOURCES = sorted((*MATHS_SOURCES, "gsm8k", "chain_sum", "arithmetic", "search", "livecodebench"))


def check_source(
    data_source: str,
    *,
    sandbox_fusion_url: str | None = None,
    allow_unsandboxed_code: bool | None = None,
    **options: Any,
) -> None:
    """Find out before a run what :func:`compute_score` would only find out in it; same options.

    ValueError if there is no grader for `data_source`, or if it grades programs and this machine cannot isolate them.
    """
    if data_source not in KNOWN_SOURCES:
        raise ValueError(f"no grader for data_source {data_source!r}; known ones are {KNOWN_SOURCES}")
    if data_source == "livecodebench" and not sandbox_fusion_url and not allow_unsandboxed_code:
        from balanced_agg.rewards.sandbox import check_sandbox

        check_sandbox()


def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: Any,
    extra_info: dict[str, Any] | None = None,
    *,
    time_limit: float = 5.0,
    processes: int = 2,
    tests_folders: Sequence[str] = (),
    sandbox_fusion_url: str | None = None,
    sandbox_fusion_max_concurrent: int | None = None,
    sandbox_fusion_memory_mb: int | None = None,
    allow_unsandboxed_code: bool | None = None,
    reward_router_address: Any = None,
    reward_model_tokenizer: Any = None,
) -> dict[str, float]:
    """Reward of one response: 1.0 if it is right, else 0.0, both as "score" and as "acc".

    verl trains on "score" and reports the others. "grader_failed" is 1.0 where no judgement was reached (time
    limit, or the grading process died) and the score is therefore 0.0 by default; a warning says why.
    A response without a final answer is wrong. Safe to call from many threads at once.

    Options, from verl's `reward.custom_reward_function.reward_kwargs`: `time_limit` is for one maths grade, in
    seconds; `processes` is the number of maths graders at work, for each of verl's reward workers. The next
    five are those of `code.grade_code`; None leaves its default. verl adds the last two and `extra_info`,
    which nothing here uses.

    ValueError if there is no grader for `data_source`, or if the ground truth or an option is not one.
    """
    if time_limit <= 0:
        raise ValueError(f"time_limit must be a positive number of seconds, got {time_limit}")
    code_options = {
        "tests_folders": tests_folders or None,
        "sandbox_fusion_url": sandbox_fusion_url,
        "sandbox_fusion_max_concurrent": sandbox_fusion_max_concurrent,
        "sandbox_fusion_memory_mb": sandbox_fusion_memory_mb,
        "allow_unsandboxed_code": allow_unsandboxed_code,
    }
    try:
        if data_source == "arithmetic":
            right = problems.is_correct(solution_str, ground_truth)
        elif data_source == "search":
            right = search.is_right(solution_str, ground_truth)
        elif data_source in ("gsm8k", "chain_sum"):
            right = gsm8k.is_right(solution_str, ground_truth)
        elif data_source in MATHS_SOURCES:
            right = maths.is_right(solution_str, ground_truth, data_source, time_limit, processes)
        elif data_source == "livecodebench":
            from balanced_agg.rewards.code import grade_code

            given = {name: value for name, value in code_options.items() if value is not None}
            right = grade_code(solution_str, ground_truth, **given)
        else:
            raise ValueError(f"no grader for data_source {data_source!r}; known ones are {KNOWN_SOURCES}")
    except GraderFailed as failure:
        logger.warning("a %s response scores 0 because it could not be graded: %s", data_source, failure)
        return {"score": 0.0, "acc": 0.0, "grader_failed": 1.0}
    return {"score": float(right), "acc": float(right), "grader_failed": 0.0}
