"""pass@k, and means with bootstrap intervals."""

from collections.abc import Sequence
from math import comb

import numpy as np

DRAWS = 10_000
# A mean and its 95 % interval (percentiles of a bootstrap over problems): value, low, high.
Estimate = dict[str, float]


def pass_at(k: int, responses: int, right: int) -> float:
    """Chance that k of the responses, drawn without replacement, hold a right one; `right` of the `responses` are.

    The unbiased estimator 1 - C(n-c, k) / C(n, k) of Chen et al. (arXiv 2107.03374).

    ValueError unless 1 <= k <= responses.
    """
    if not 1 <= k <= responses:
        raise ValueError(f"pass@{k} cannot be estimated from {responses} responses")
    return 1 - comb(responses - right, k) / comb(responses, k)


def estimate(sums: np.ndarray, sizes: np.ndarray) -> Estimate | None:
    """Sum of `sums` over sum of `sizes`; both (problems,). None where all sizes are 0.

    Sizes of 1 give the mean of the problems' scores, numbers of responses the mean over responses. A single problem has
    an interval of no width.
    """
    if not sizes.sum():
        return None
    return _interval(float(sums.sum() / sizes.sum()), _resampled(sums, sizes, seed=0))


def mean_of(benchmarks: Sequence[np.ndarray]) -> Estimate:
    """Unweighted mean over benchmarks of their problems' mean scores, each (problems,) and resampled on its own.

    The paper's Table 1 averages benchmarks so.
    """
    draws = [_resampled(scores, np.ones_like(scores), seed) for seed, scores in enumerate(benchmarks)]
    return _interval(float(np.mean([scores.mean() for scores in benchmarks])), np.mean(draws, axis=0))


def _resampled(sums: np.ndarray, sizes: np.ndarray, seed: int) -> np.ndarray:
    """The ratio in DRAWS samples of as many problems, with replacement, but for samples whose sizes are all 0.

    Problems, not responses, are drawn: the responses to one problem are not independent evidence of a benchmark.
    """
    problems = len(sums)
    counts = np.random.default_rng(seed).multinomial(problems, np.full(problems, 1 / problems), size=DRAWS)
    drawn = counts @ sizes
    return (counts @ sums)[drawn > 0] / drawn[drawn > 0]


def _interval(value: float, draws: np.ndarray) -> Estimate:
    low, high = np.quantile(draws, [0.025, 0.975])
    return {"value": value, "low": float(low), "high": float(high)}
