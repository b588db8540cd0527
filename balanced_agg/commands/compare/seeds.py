"""Statistics over the seeds of a group."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from statistics import fmean, stdev


@dataclass(frozen=True)
class OverSeeds:
    """One quantity over seeds.

    Attributes:
        by_seed: seed -> value.
        mean: None without a seed.
        half_width: of the 95 % interval mean ± half_width; None for fewer than two seeds, which say nothing of spread.
    """

    by_seed: dict[int, float]
    mean: float | None
    half_width: float | None


def over_seeds(by_seed: Mapping[int, float]) -> OverSeeds:
    """Mean and 95 % interval by Student's t: mean ± t(.975, n - 1) * s / sqrt(n), s with n - 1 below."""
    values = list(by_seed.values())
    return OverSeeds(dict(by_seed), fmean(values) if values else None, half_width(values))


def half_width(values: list[float]) -> float | None:
    if len(values) < 2:
        return None
    from scipy.stats import t

    return float(t.ppf(0.975, len(values) - 1)) * stdev(values) / sqrt(len(values))
