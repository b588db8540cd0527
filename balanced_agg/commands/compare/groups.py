"""Runs grouped by setting and mode: which of them count, and what a reader of the comparison must know."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import NamedTuple

from balanced_agg.commands.compare.differences import differences
from balanced_agg.commands.plot_style import styles_of
from balanced_agg.loss.rules import mode_name
from balanced_agg.runs.run import BENCHMARK, Run

MEAN = "mean"
MOST_REMARKS = 100  # of one kind


class Quantity(NamedTuple):
    """What is tabled or drawn of a run.

    Attributes:
    name: in JSON and in file names.
    label: for people; its unit behind a comma.
    of: its values in a run: step -> value; empty where the run does not have it.
    digits: behind the point, in a table.
    """

    name: str
    label: str
    of: Callable[[Run], dict[int, float]]
    digits: int = 3


def logged(metric: str) -> Callable[[Run], dict[int, float]]:
    """A metric of each training step. NAME stands for the aggregation that the run trains with; a run under a mode that
    is none of the known ones does not have it, though its log has those of the known ones.
    """
    return lambda run: run.series(metric.replace("NAME", mode_name(run.mode)))


# Besides validation.
QUANTITIES = (
    Quantity("response_length", "response length, tokens", logged("response_length/mean"), digits=1),
    Quantity("length_gap", "length gap\n(positive - negative) / mean", logged("aggregation/length_gap")),
    Quantity("entropy", "entropy, nats", logged("actor/entropy")),
    Quantity("reward", "reward", logged("critic/score/mean")),
    Quantity(
        "positive_share", "share of gradient mass\non positive responses", logged("aggregation/NAME/positive_share")
    ),
    Quantity("gradient_norm", "gradient norm, before clipping", logged("actor/grad_norm")),
    Quantity("clipped_steps", "share of optimizer steps\nthat were clipped", logged("aggregation/clipped_steps")),
)


@dataclass
class Setting:
    """Runs that can be compared with each other.

    Attributes:
        benchmarks: name -> metric, of all its runs.
        groups: mode -> its runs by seed; modes in the order of plot_style.STYLES, unknown ones behind.
        cut_short: runs that are shown apart and are in no group and no statistic.
        remarks: sentences on what is ragged, short or different in it.
    """

    name: str
    benchmarks: dict[str, str]
    groups: dict[str, list[Run]]
    cut_short: list[Run]
    remarks: list[str]

    @property
    def runs(self) -> list[Run]:
        """All of them, by mode and seed."""
        runs = [*self.cut_short, *(run for group in self.groups.values() for run in group)]
        return sorted(runs, key=lambda run: (list(self.groups).index(run.mode), run.seed))

    @property
    def rows(self) -> list[str]:
        """Its benchmarks, and behind them their mean where there are several."""
        return [*self.benchmarks, *([MEAN] if len(self.benchmarks) > 1 else [])]

    def accuracy(self, run: Run, row: str) -> dict[int, float]:
        """step -> validation accuracy of a run on a benchmark, or, for the row ``mean``, on all of the setting's.

        The mean is unweighted, at the steps where all of them were logged; a run that lacks one has none.
        """
        if row != MEAN:
            return run.series(self.benchmarks[row])
        columns = [run.series(metric) for metric in self.benchmarks.values()]
        everywhere = set.intersection(*map(set, columns))
        return {step: fmean(column[step] for column in columns) for step in sorted(everywhere)}


def settings(runs: Sequence[Run]) -> list[Setting]:
    """The runs by setting, in the order they were first named."""
    names = dict.fromkeys(run.setting for run in runs)
    return [setting(name, [run for run in runs if run.setting == name]) for name in names]


def setting(name: str, runs: Sequence[Run]) -> Setting:
    short, remarks = cut_short(runs)
    counted = sorted((run for run in runs if run not in short), key=lambda run: run.seed)
    modes = styles_of({run.mode for run in runs})
    groups = {mode: [run for run in counted if run.mode == mode] for mode in modes}
    found = sorted({item for run in runs for item in run.benchmarks.items()}, reverse=True)
    benchmarks = dict(sorted(dict(found).items()))  # where some runs have acc and others reward, acc came last
    rewards = [name for name, metric in benchmarks.items() if BENCHMARK.fullmatch(metric)["value"] == "reward"]
    remarks += [f"{run.name}: {note}" for run in runs for note in run.notes]
    if rewards:
        remarks.append(
            f"Rewards on {', '.join(rewards)} come without acc: what is called accuracy there is the mean reward."
        )
    remarks += unequal_seeds(groups) + not_logged(runs, benchmarks)
    remarks += at_most([f"The configs differ: {sentence}." for sentence in differences(runs)], "keys differ")
    if without := [run.name for run in runs if run.config is None]:
        remarks.append(f"No config to compare with the others': {', '.join(without)}.")
    return Setting(name, benchmarks, groups, short, remarks)


def cut_short(runs: Sequence[Run]) -> tuple[list[Run], list[str]]:
    """Find the runs that ended before the others of their setting, or before their own end; with a remark on each.

    Their own end is trainer.total_training_steps. Where no run has got there, as in the middle of a sweep, the furthest
    ones count as they stand. How far a run got is its last validation; where no run has one, its last step.
    """
    remarks = []
    not_at_end = [run for run in runs if run.total_steps is not None and run.last_step < run.total_steps]
    if len(not_at_end) == len(runs):
        not_at_end = []
        remarks.append("No run has got to the end of its training; those that got furthest are compared as they stand.")
    validated = any(run.last_validation is not None for run in runs)
    what = "validation" if validated else "step"
    reached = {id(run): (run.last_validation if validated else run.last_step) for run in runs}
    end = max(reached[id(run)] or 0 for run in runs if run not in not_at_end)
    short = []
    for run in runs:
        if not run.steps:
            why = "has logged no step"
        elif run in not_at_end:
            why = f"ended at step {run.last_step} of {run.total_steps}"
        elif reached[id(run)] is None:
            why = "has no validation"
        elif reached[id(run)] < end:
            why = f"has its last {what} at step {reached[id(run)]}, others at {end}"
        else:
            continue
        short.append(run)
        remarks.append(f"{run.name} {why}; it is in no statistic, and drawn thin.")
    return short, remarks


def at_most(remarks: list[str], of_others: str) -> list[str]:
    """The first MOST_REMARKS of one kind, and how many others there are."""
    others = len(remarks) - MOST_REMARKS
    return remarks if others <= 0 else [*remarks[:MOST_REMARKS], f"{others} further {of_others}."]


def unequal_seeds(groups: dict[str, list[Run]]) -> list[str]:
    seeds = {mode: [run.seed for run in group] for mode, group in groups.items()}
    if len(set(map(tuple, seeds.values()))) == 1:
        return []
    listed = "; ".join(f"{mode} {', '.join(map(str, found)) or 'none'}" for mode, found in seeds.items())
    return [f"The aggregations were run with different seeds, or some are left out: {listed}."]


def not_logged(runs: Sequence[Run], benchmarks: dict[str, str]) -> list[str]:
    """Remarks on what only some runs logged; the quantities that none logged are told where pictures are made."""
    remarks = []
    logged_by = [(run.name, run.benchmarks) for run in runs]
    for name, metric in benchmarks.items():
        if without := [run for run, found in logged_by if found.get(name) != metric]:
            remarks.append(
                f"{name} was not logged by {', '.join(without)}, which therefore has no mean over benchmarks."
            )
    remarks = at_most(remarks, "benchmarks were not logged by all")
    for quantity in QUANTITIES:
        without = [run.name for run in runs if not quantity.of(run)]
        if without and len(without) < len(runs):
            remarks.append(f"The {quantity.name.replace('_', ' ')} was not logged by {', '.join(without)}.")
    return remarks
