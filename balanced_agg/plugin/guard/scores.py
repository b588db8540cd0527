"""Scores that can be trained on, and the default in place of the others."""

import logging
import math
from numbers import Real
from typing import Any

logger = logging.getLogger(__name__)

# Where a response's reward_extra_info tells why its score is the default.
REASON = "grader_failure"
LONGEST_REASON = 300  # characters


def checked(score: Any) -> float:
    """The score as a float. ValueError unless it is one finite number (also of numpy or torch)."""
    try:
        number = score.item() if hasattr(score, "item") else score
    except (ValueError, RuntimeError):  # several numbers
        number = None
    if not isinstance(number, Real) or not math.isfinite(number):
        raise ValueError(f"the reward function returned {score!r:.{LONGEST_REASON}}, which is not a finite number")
    return float(number)


def reason(error: BaseException) -> str:
    """What went wrong, in a line."""
    error = getattr(error, "cause", None) or error  # Ray wraps what a remote function raised
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:LONGEST_REASON]


class Defaults:
    """Score 0 for responses without a score, and a log with one traceback for each kind of error.

    A default looks like the function's other results for the same data source: the numbers that it reports beside
    the score are 0 too.
    """

    def __init__(self):
        self._reported: dict[str, dict[str, float]] = {}  # data source -> numbers of its results, as 0
        self._logged: set[str] = set()

    def learn(self, data_source: str, reported: dict[str, Any]) -> None:
        """Take note of what the function reports with a score that came."""
        if data_source not in self._reported:
            self._reported[data_source] = {name: 0.0 for name, value in reported.items() if isinstance(value, Real)}

    def replace(self, data_source: str, error: Exception) -> dict[str, float | str]:
        """What is reported in place of a score that did not come."""
        kind = type(error).__name__
        if kind not in self._logged:
            self._logged.add(kind)
            logger.error(
                "a %s response scores 0 because its score did not come; reward/defaulted counts these, and further "
                "ones of this kind are not logged: %s",
                data_source,
                reason(error),
                exc_info=error,
            )
        return self._reported.get(data_source, {}) | {"grader_failed": 1.0, REASON: reason(error)}
