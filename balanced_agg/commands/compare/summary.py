"""The numbers of a comparison, as data."""

from collections.abc import Sequence
from statistics import fmean
from typing import Any

from balanced_agg.commands.compare.groups import QUANTITIES, Setting
from balanced_agg.commands.compare.reference import Reference, beside
from balanced_agg.runs.run import Run


def summarize(
    settings: Sequence[Setting], remarks: Sequence[str], reference: Reference | None = None
) -> dict[str, Any]:
    """Return everything that the tables hold, ready for JSON. Accuracies and drops are shares, 0 to 1.

    Of each setting and mode: the seeds that count and those that were cut short; of each benchmark peak, peak_step,
    last and drop; and final values. Each number is that of :func:`over_seeds`. Of a setting also what
    :func:`reference.beside` says, if there is a reference, with a remark where it has nothing.
    """
    return {
        "settings": [summarize_setting(setting, reference) for setting in settings],
        "remarks": list(remarks),
        "runs": [describe(run, setting) for setting in settings for run in setting.runs],
    }


def summarize_setting(setting: Setting, reference: Reference | None) -> dict[str, Any]:
    summary = {
        "setting": setting.name,
        "benchmarks": setting.rows,
        "groups": [summarize_group(mode, setting) for mode in setting.groups],
        "remarks": setting.remarks,
    }
    if reference is None:
        return summary
    found = beside(reference, summary)
    told = [f"Nothing of the reference stands beside these runs: {found['why']}."] if "why" in found else []
    return summary | {"reference": found, "remarks": setting.remarks + told}


def summarize_group(mode: str, setting: Setting) -> dict[str, Any]:
    runs, benchmarks = setting.groups[mode], {}
    for row in setting.rows:
        measured = {run.seed: peak_and_last(setting.accuracy(run, row)) for run in runs}
        benchmarks[row] = {
            name: over_seeds({seed: values[name] for seed, values in measured.items()})
            for name in ("peak", "peak_step", "last", "drop")
        }
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


def peak_and_last(accuracies: dict[int, float]) -> dict[str, float | None]:
    """Highest accuracy over the validation steps, the first step that has it, the last accuracy, and what was lost.

    None of each where there is no validation.
    """
    if not accuracies:
        return dict.fromkeys(("peak", "peak_step", "last", "drop"))
    peak_step = max(accuracies, key=lambda step: (accuracies[step], -step))
    peak, last = accuracies[peak_step], accuracies[max(accuracies)]
    return {"peak": peak, "peak_step": peak_step, "last": last, "drop": peak - last}


def final(series: dict[int, float]) -> float | None:
    """Mean of the last tenth of the logged steps, of one step at least: a single training step is noisy."""
    values = [series[step] for step in sorted(series)]
    return fmean(values[-max(1, len(values) // 10) :]) if values else None


def describe(run: Run, setting: Setting) -> dict[str, Any]:
    measured = peak_and_last(setting.accuracy(run, setting.rows[-1]) if setting.rows else {})
    told = ("name", "path", "setting", "mode", "seed", "commit", "last_step", "total_steps")
    return {
        **{key: getattr(run, key) for key in told},
        "cut_short": run in setting.cut_short,
        "peak": measured["peak"],
        "last": measured["last"],
    }
