"""mean@k, pass@k and means over responses, with bootstrap intervals."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb

import numpy as np

DRAWS = 10_000


@dataclass
class Estimate:
    """A mean over problems and its 95 % interval (percentiles of a bootstrap over problems)."""

    value: float
    low: float
    high: float


def pass_at(k: int, responses: int, right: int) -> float:
    """Chance that k of the responses, drawn without replacement, hold a right one; `right` of the `responses` are.

    The unbiased estimator 1 - C(n-c, k) / C(n, k) of Chen et al. (arXiv 2107.03374).

    ValueError unless 1 <= k <= responses.
    """
    if not 1 <= k <= responses:
        raise ValueError(f"pass@{k} cannot be estimated from {responses} responses")
    return 1 - comb(responses - right, k) / comb(responses, k)


def mean_at_k(accuracy: Sequence[Sequence[float]]) -> np.ndarray:
    """Share of right responses of each problem; (problems, k) -> (problems,)."""
    return np.asarray(accuracy, dtype=float).mean(axis=1)


def pass_at_k(accuracy: Sequence[Sequence[float]], k: int) -> np.ndarray:
    """pass@k of each problem; (problems, n) with n >= k -> (problems,)."""
    return np.array([pass_at(k, len(row), int(sum(row))) for row in accuracy])


def bootstrap_counts(problems: int, seed: int) -> np.ndarray:
    """How often each problem is in each of DRAWS samples of as many problems, with replacement; (DRAWS, problems).

    Problems, not responses, are drawn: the responses to one problem are not independent evidence of a benchmark.
    """
    return np.random.default_rng(seed).multinomial(problems, np.full(problems, 1 / problems), size=DRAWS)


def bootstrap_means(scores: np.ndarray, seed: int) -> np.ndarray:
    """Means of DRAWS samples of problems; (problems,) -> (DRAWS,)."""
    return bootstrap_counts(len(scores), seed) @ scores / len(scores)


def estimate(scores: np.ndarray, seed: int = 0) -> Estimate:
    """Mean of the problems' scores. A single problem has an interval of no width."""
    return interval(float(scores.mean()), bootstrap_means(scores, seed))


def estimate_over_responses(values: Sequence[Sequence[float]], seed: int = 0) -> Estimate | None:
    """Mean over the responses to all problems, one inner list for each problem; None if there are no responses."""
    sums, sizes = (np.array([function(row) for row in values], dtype=float) for function in (sum, len))
    if not sizes.sum():
        return None
    counts = bootstrap_counts(len(sums), seed)
    # A sample may consist of problems without a response: it has no mean.
    drawn = counts @ sizes
    return interval(float(sums.sum() / sizes.sum()), (counts @ sums)[drawn > 0] / drawn[drawn > 0])


def mean_of(benchmarks: Sequence[np.ndarray], seed: int = 0) -> Estimate:
    """Unweighted mean over benchmarks, each resampled on its own (the paper's Table 1 averages benchmarks)."""
    draws = np.mean([bootstrap_means(scores, seed + i) for i, scores in enumerate(benchmarks)], axis=0)
    return interval(float(np.mean([scores.mean() for scores in benchmarks])), draws)


def interval(value: float, draws: np.ndarray) -> Estimate:
    low, high = np.quantile(draws, [0.025, 0.975])
    return Estimate(value, float(low), float(high))
