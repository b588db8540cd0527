"""A fallback score for every response whose score does not come, or cannot be trained on."""

import logging
import math
from functools import partial
from numbers import Real
from types import SimpleNamespace
from typing import Any

logger = logging.getLogger(__name__)

# Where a response's reward_extra_info tells why its score is the fallback.
REASON = "grader_failure"
LONGEST_REASON = 300  # characters

_reported: dict[str, dict[str, float]] = {}  # data source -> the numbers that come with its scores, as 0
_logged: set[str] = set()  # kinds of errors


def guarded(handle: Any) -> SimpleNamespace:
    """Stands for the handle of a reward worker (a Ray actor) where verl's agent loops ask it for scores.

    Here all that can go wrong with a score ends up: what the reward function raised or returned, the time limit, and
    a worker that has died.
    """
    return SimpleNamespace(compute_score=SimpleNamespace(remote=partial(score_or_fallback, handle)))


async def score_or_fallback(handle: Any, data: Any) -> dict[str, Any]:
    """verl's ``reward_score`` and ``reward_extra_info`` of the last response in a DataProto; raises nothing."""
    data_source = str(data.non_tensor_batch["data_source"][-1])
    try:
        result = await handle.compute_score.remote(data)
        score = checked(result["reward_score"])
    except Exception as error:
        return {"reward_score": 0.0, "reward_extra_info": fallback(data_source, error)}
    reported = result.get("reward_extra_info", {})
    # verl's rate-limited manager scores 0 by itself, and says so under two keys of its own.
    by_verl = bool(reported.get("timeout") or reported.get("error"))
    reported = {"grader_failed": float(by_verl)} | reported
    if data_source not in _reported:
        _reported[data_source] = {name: 0.0 for name, value in reported.items() if isinstance(value, Real)}
    return {"reward_score": score, "reward_extra_info": reported}


def checked(score: Any) -> float:
    """The score as a float. ValueError unless it is one finite number (also of numpy or torch)."""
    try:
        number = score.item() if hasattr(score, "item") else score
    except (ValueError, RuntimeError):  # several numbers
        number = None
    if not isinstance(number, Real) or not math.isfinite(number):
        raise ValueError(f"the reward function returned {score!r:.{LONGEST_REASON}}, which is not a finite number")
    return float(number)


def fallback(data_source: str, error: BaseException) -> dict[str, float | str]:
    """What is reported with a fallback score: why, the data source, by which an evaluation knows the benchmark, and 0
    for each number that comes with a score of this data source.

    The first error of its kind is logged with its traceback.
    """
    cause = getattr(error, "cause", None) or error  # Ray wraps what a remote function raised
    reason = f"{type(cause).__name__}: {' '.join(str(cause).split())}"[:LONGEST_REASON]
    kind = type(error).__name__
    if kind not in _logged:
        _logged.add(kind)
        logger.error(
            "a %s response scores 0 because its score did not come; reward/defaulted counts these, and further "
            "ones of this kind are not logged: %s",
            data_source,
            reason,
            exc_info=error,
        )
    return _reported.get(data_source, {}) | {"data_source": data_source, "grader_failed": 1.0, REASON: reason}
