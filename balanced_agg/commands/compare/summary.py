"""The numbers of a comparison, as data."""

from collections.abc import Sequence
from math import sqrt
from statistics import fmean, stdev
from typing import Any

from balanced_agg.commands.compare.groups import Group, Setting
from balanced_agg.commands.compare.quantities import QUANTITIES
from balanced_agg.runs.run import Run

MEAN = "mean"


def summarize(settings: Sequence[Setting], remarks: Sequence[str]) -> dict[str, Any]:
    """Return everything that the tables hold, ready for JSON. Accuracies and drops are shares, 0 to 1.

    Of each setting and mode: the seeds that count and those that were cut short; of each benchmark peak, peak_step,
    last and drop; and final values. Each number is that of :func:`over_seeds`.
    """
    return {
        "settings": [
            {
                "setting": setting.name,
                "benchmarks": rows_of(setting),
                "groups": [summarize_group(group, setting) for group in setting.groups],
                "remarks": setting.remarks,
            }
            for setting in settings
        ],
        "remarks": list(remarks),
        "runs": [
            describe(run, group, setting) for setting in settings for group in setting.groups for run in group.runs
        ],
    }


def rows_of(setting: Setting) -> list[str]:
    """The setting's benchmarks, and behind them their mean where there are several."""
    return [*setting.benchmarks, *([MEAN] if len(setting.benchmarks) > 1 else [])]


def summarize_group(group: Group, setting: Setting) -> dict[str, Any]:
    return {
        "mode": group.mode,
        "seeds": [run.seed for run in group.full_length],
        "seeds_cut_short": [run.seed for run in group.cut_short],
        "benchmarks": {row: summarize_benchmark(group.full_length, setting, row) for row in rows_of(setting)},
        "final": {
            quantity.name: over_seeds({run.seed: final(quantity.of(run)) for run in group.full_length})
            for quantity in QUANTITIES
        },
    }


def summarize_benchmark(runs: Sequence[Run], setting: Setting, row: str) -> dict[str, Any]:
    measured = {run.seed: peak_and_last(accuracy(run, setting, row)) for run in runs}
    return {
        name: over_seeds({seed: values and values[name] for seed, values in measured.items()})
        for name in ("peak", "peak_step", "last", "drop")
    }


def over_seeds(values: dict[int, float | None]) -> dict[str, Any]:
    """{by_seed, mean, half_width} of the seeds that have a value; None where there are too few.

    mean ± half_width is the 95 % interval by Student's t: t(.975, n - 1) * s / sqrt(n), s with n - 1 below.
    """
    by_seed = {seed: value for seed, value in values.items() if value is not None}
    found = list(by_seed.values())
    half_width = None
    if len(found) > 1:
        from scipy.stats import t

        half_width = float(t.ppf(0.975, len(found) - 1)) * stdev(found) / sqrt(len(found))
    return {"by_seed": by_seed, "mean": fmean(found) if found else None, "half_width": half_width}


def accuracy(run: Run, setting: Setting, row: str) -> dict[int, float]:
    """step -> validation accuracy of a run on a benchmark, or, for the row ``mean``, on all of the setting's.

    The mean is unweighted, at the steps where all of them were logged; a run that lacks one has none.
    """
    if row != MEAN:
        return run.series(setting.benchmarks[row])
    columns = [run.series(metric) for metric in setting.benchmarks.values()]
    everywhere = set.intersection(*map(set, columns))
    return {step: fmean(column[step] for column in columns) for step in sorted(everywhere)}


def peak_and_last(accuracies: dict[int, float]) -> dict[str, float] | None:
    """Highest accuracy over the validation steps, the first step that has it, the last accuracy, and what was lost."""
    if not accuracies:
        return None
    peak_step = max(accuracies, key=lambda step: (accuracies[step], -step))
    peak, last = accuracies[peak_step], accuracies[max(accuracies)]
    return {"peak": peak, "peak_step": peak_step, "last": last, "drop": peak - last}


def final(series: dict[int, float]) -> float | None:
    """Mean of the last tenth of the logged steps, of one step at least: a single training step is noisy."""
    values = [series[step] for step in sorted(series)]
    return fmean(values[-max(1, len(values) // 10) :]) if values else None


def describe(run: Run, group: Group, setting: Setting) -> dict[str, Any]:
    overall = rows_of(setting)[-1:]
    measured = peak_and_last(accuracy(run, setting, overall[0])) if overall else None
    return {
        "name": run.name,
        "path": run.path,
        "setting": setting.name,
        "mode": run.mode,
        "seed": run.seed,
        "commit": run.commit,
        "last_step": run.last_step,
        "total_steps": run.total_steps,
        "cut_short": run in group.cut_short,
        "peak": measured and measured["peak"],
        "last": measured and measured["last"],
    }
