"""What a picture draws of a group: mean and range over its seeds at each step."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

SMOOTHED_FROM, WINDOW = 201, 11  # steps


@dataclass(frozen=True)
class Curve:
    """(steps,) arrays: mean, lowest and highest seed."""

    steps: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray


def curve(series: Sequence[dict[int, float]]) -> Curve | None:
    """The seeds' curve over the steps that every seed has; None if there is no such step.

    Where only some seeds have a value, their mean would jump with who is in it.
    """
    common = sorted(set.intersection(*map(set, series))) if series else []
    if not common:
        return None
    values = np.array([[one[step] for step in common] for one in series])
    return Curve(np.array(common), values.mean(axis=0), values.min(axis=0), values.max(axis=0))


def smooth(series: dict[int, float]) -> dict[int, float]:
    """Centred running mean over WINDOW logged steps; over those that there are, at both ends."""
    steps, reach = sorted(series), WINDOW // 2
    values = np.array([series[step] for step in steps])
    return {step: float(values[max(0, i - reach) : i + reach + 1].mean()) for i, step in enumerate(steps)}
