"""The numbers of a comparison, as data."""

from collections.abc import Sequence
from itertools import pairwise
from statistics import fmean
from typing import Any

from balanced_agg.commands.compare.groups import QUANTITIES, Setting
from balanced_agg.commands.compare.paired import paired
from balanced_agg.commands.compare.reference import Reference, beside
from balanced_agg.loss.rules import mode_name
from balanced_agg.runs.run import Run


def summarize(
    settings: Sequence[Setting],
    remarks: Sequence[str],
    reference: Reference | None = None,
    base: str | None = None,
) -> dict[str, Any]:
    """Return everything that the tables hold, ready for JSON. Accuracies and drops are shares, 0 to 1.

    Of each setting and mode: the seeds that count and those that were cut short; of each benchmark the numbers of
    :func:`of_accuracies`; and final values. Each number is that of :func:`over_seeds`. Of a setting also what
    :func:`reference.beside` says, if there is a reference, with a remark where it has nothing; and the rows of
    :func:`paired.paired`, if there is a mode to subtract.
    """
    return {
        "settings": [summarize_setting(setting, reference, base) for setting in settings],
        "remarks": list(remarks),
        "runs": [describe(run, setting) for setting in settings for run in setting.runs],
    }


def summarize_setting(setting: Setting, reference: Reference | None, base: str | None) -> dict[str, Any]:
    summary = {
        "setting": setting.name,
        "benchmarks": setting.rows,
        "groups": [summarize_group(mode, setting) for mode in setting.groups],
        "remarks": setting.remarks,
    }
    if base is not None:
        modes = setting.groups  # of which one may be named as `aggregation=` does
        base = next((mode for mode in modes if base in (mode, mode_name(mode))), base)
        summary |= {"base": base, "paired": paired(summary, base)}
        if not summary["paired"]:
            summary["remarks"] = [*setting.remarks, f"No run under {base} has the seed of another aggregation's."]
    if reference is None:
        return summary
    found = beside(reference, summary)
    told = [f"Nothing of the reference stands beside these runs: {found['why']}."] if "why" in found else []
    return summary | {"reference": found, "remarks": summary["remarks"] + told}


def summarize_group(mode: str, setting: Setting) -> dict[str, Any]:
    runs, benchmarks = setting.groups[mode], {}
    for row in setting.rows:
        level = reached_by_all(setting, row)
        measured = {run.seed: of_accuracies(setting.accuracy(run, row), level) for run in runs}
        benchmarks[row] = {
            name: over_seeds({seed: values[name] for seed, values in measured.items()}) for name in ACCURACY_NUMBERS
        } | {"level": level}
    return {
        "mode": mode,
        "seeds": [run.seed for run in runs],
        "seeds_cut_short": sorted(run.seed for run in setting.cut_short if run.mode == mode),
        "benchmarks": benchmarks,
        "final": {
            quantity.name: over_seeds({run.seed: final(quantity.of(run)) for run in runs}) for quantity in QUANTITIES
        },
    }


def over_seeds(values: dict[int, float | None]) -> dict[str, Any]:
    """{by_seed, mean, half_width} of the seeds that have a value; None where there are too few.

    mean ± half_width is the 95 % interval by Student's t: t(.975, n - 1) * s / sqrt(n), s with n - 1 below.
    """
    by_seed = {seed: value for seed, value in values.items() if value is not None}
    found = list(by_seed.values())
    half_width = None
    if len(found) > 1:
        from scipy.stats import sem, t

        half_width = float(t.ppf(0.975, len(found) - 1) * sem(found))
    return {"by_seed": by_seed, "mean": fmean(found) if found else None, "half_width": half_width}


ACCURACY_NUMBERS = ("peak", "peak_step", "last", "drop", "smoothed_drop", "average", "steps_to_level")


def of_accuracies(accuracies: dict[int, float], level: float | None = None) -> dict[str, float | None]:
    """The numbers of one run's validations, step -> accuracy; None of each where there is no validation.

    - peak, peak_step: the highest, and the first step that has it; last: that of the last step; drop: peak - last. A
      peak is the largest of noisy estimates: it and the drop are biased upwards, more so with more validations.
    - smoothed_drop: the same drop of the means of three validations in a row; None for fewer than three.
    - average: the mean over steps, accuracies between validations on straight lines (the area under the curve).
    - steps_to_level: the first validation step at or above ``level``; None without one or where it is not reached.
    """
    if not accuracies:
        return dict.fromkeys(ACCURACY_NUMBERS)
    steps = sorted(accuracies)
    values = [accuracies[step] for step in steps]
    peak, last = max(values), values[-1]
    smoothed = [fmean(values[i : i + 3]) for i in range(len(values) - 2)]
    area = sum((b - a) * (accuracies[a] + accuracies[b]) / 2 for a, b in pairwise(steps))
    reached = [step for step in steps if level is not None and accuracies[step] >= level]
    return {
        "peak": peak,
        "peak_step": steps[values.index(peak)],
        "last": last,
        "drop": peak - last,
        "smoothed_drop": max(smoothed) - smoothed[-1] if smoothed else None,
        "average": area / (steps[-1] - steps[0]) if len(steps) > 1 else last,
        "steps_to_level": min(reached, default=None),
    }


def reached_by_all(setting: Setting, row: str) -> float | None:
    """The highest accuracy that each run that counts has reached; None where one has no validation."""
    peaks = [max(setting.accuracy(run, row).values(), default=None) for runs in setting.groups.values() for run in runs]
    return None if not peaks or None in peaks else min(peaks)


def final(series: dict[int, float]) -> float | None:
    """Mean of the last tenth of the logged steps, of one step at least: a single training step is noisy."""
    values = [series[step] for step in sorted(series)]
    return fmean(values[-max(1, len(values) // 10) :]) if values else None


def describe(run: Run, setting: Setting) -> dict[str, Any]:
    measured = of_accuracies(setting.accuracy(run, setting.rows[-1]) if setting.rows else {})
    told = ("name", "path", "setting", "mode", "seed", "commit", "last_step", "total_steps")
    return {
        **{key: getattr(run, key) for key in told},
        "cut_short": run in setting.cut_short,
        "peak": measured["peak"],
        "last": measured["last"],
    }
