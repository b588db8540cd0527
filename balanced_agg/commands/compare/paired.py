"""Differences between aggregations at equal seeds: runs of one seed share the order of their data."""

from collections.abc import Sequence
from typing import Any

RESAMPLES = 10_000
ACCURACIES = ("last", "average", "peak", "drop", "smoothed_drop", "steps_to_level")


def paired(setting: dict[str, Any], base: str) -> list[dict[str, Any]]:
    """Of a setting of :func:`summary.summarize`, each other aggregation minus `base`, number by number.

    A row is {quantity, mode, pairs, mean, half_width, bootstrap, p, p_adjusted}:

    - pairs: the seeds that both have; the others count for nothing here;
    - mean ± half_width: the 95 % interval of the mean difference by Student's t, its normality assumed;
    - bootstrap: the 95 % interval (low, high) by resampling the pairs (bias-corrected and accelerated), which assumes
      no shape but is too narrow below some ten pairs;
    - p: of the paired t-test; p_adjusted: Holm's, for all rows of the setting, so that the chance of a single one below
      .05 is at most 5 % where there is no difference anywhere.

    With one pair there is a mean alone, and with differences that are all equal no test.
    """
    groups = {group["mode"]: group for group in setting["groups"]}
    rows = [
        {"quantity": quantity, "mode": mode} | difference(values, numbers(groups[base])[quantity])
        for mode, group in groups.items()
        if base in groups and mode != base
        for quantity, values in numbers(group).items()
    ]
    for row, adjusted in zip(rows, holm([row["p"] for row in rows]), strict=True):
        row["p_adjusted"] = adjusted
    return [row for row in rows if row["pairs"]]


def numbers(group: dict[str, Any]) -> dict[str, dict[int, float]]:
    """quantity -> seed -> value: of accuracies those over all benchmarks, and what a run ended at."""
    found = {}
    for benchmark in list(group["benchmarks"])[-1:]:
        found |= {name: group["benchmarks"][benchmark][name]["by_seed"] for name in ACCURACIES}
    return found | {name: value["by_seed"] for name, value in group["final"].items()}


def difference(values: dict[int, float], base: dict[int, float]) -> dict[str, Any]:
    """{pairs, mean, half_width, bootstrap, p} of values - base at the seeds of both."""
    seeds = sorted(values.keys() & base.keys())
    told: dict[str, Any] = {"pairs": len(seeds), "mean": None, "half_width": None, "bootstrap": None, "p": None}
    if not seeds:
        return told
    differences = [values[seed] - base[seed] for seed in seeds]
    told["mean"] = sum(differences) / len(seeds)
    if len(set(differences)) == 1:
        return told
    import numpy as np
    from scipy.stats import bootstrap, ttest_1samp

    tested = ttest_1samp(differences, 0)
    told["half_width"] = float(tested.confidence_interval(0.95).high - told["mean"])
    told["p"] = float(tested.pvalue)
    drawn = bootstrap((differences,), np.mean, n_resamples=RESAMPLES, rng=np.random.default_rng(0))
    told["bootstrap"] = [float(drawn.confidence_interval.low), float(drawn.confidence_interval.high)]
    return told


def detectable(told: dict[str, Any], power: float = 0.8) -> float | None:
    """The true difference that a two-sided paired t-test at .05 sees with this power, if differences vary as in `told`,
    which is a value of :func:`difference`. None where that has no interval.
    """
    if told["half_width"] is None:
        return None
    from scipy.optimize import brentq
    from scipy.stats import nct, t

    freedom = told["pairs"] - 1
    limit = t.ppf(0.975, freedom)
    # In standard errors: 16 for two pairs, the most there can be. The other tail is nothing beside this one.
    errors = brentq(lambda effect: nct.sf(limit, freedom, effect) - power, 0, 20)
    return float(errors * told["half_width"] / limit)


def holm(p: Sequence[float | None]) -> list[float | None]:
    """Holm's adjusted p values, at most 1; None where there was no test, which counts for nothing."""
    tested = sorted((value, i) for i, value in enumerate(p) if value is not None)
    adjusted: list[float | None] = [None] * len(p)
    least = 0.0
    for rank, (value, i) in enumerate(tested):
        adjusted[i] = least = max(least, min(1.0, value * (len(tested) - rank)))
    return adjusted
