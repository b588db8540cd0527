"""Published accuracies beside those of the runs, with what chance alone makes of such a difference."""

from dataclasses import dataclass
from itertools import combinations
from math import sqrt
from pathlib import Path
from typing import Any, NamedTuple

from balanced_agg.commands.compare.groups import MEAN
from balanced_agg.untrusted import read_yaml

FILES = {"paper": Path(__file__).with_name("paper.yaml")}
NORMAL_95 = 1.96


@dataclass(frozen=True)
class Reference:
    """Attributes:
    source: where the numbers are from, for people.
    problems: benchmark, as verl's log names it -> how many problems it has.
    accuracy: recipe -> loss_agg_mode -> accuracy at the last step, 0 to 1, the unweighted mean of these benchmarks.
    """

    source: str
    problems: dict[str, int]
    accuracy: dict[str, dict[str, float]]


def read_reference(named: str) -> Reference:
    """The reference of this name, or that of a YAML file with the keys of paper.yaml. ValueError for any other file."""
    path = FILES.get(named, Path(named))
    content = read_yaml(path)
    match content:
        case {"source": str(source), "problems": {**problems}, "accuracy": {**accuracy}} if problems:
            pass
        case _:
            raise ValueError(
                f"{path} must have the keys source, problems and accuracy, as paper.yaml of the package has"
            )
    for benchmark, count in problems.items():
        if type(count) is not int or count < 1:
            raise ValueError(f"{path}: problems.{benchmark} must be a number of problems, not {count!r}")
    for recipe, modes in accuracy.items():
        for mode, share in (modes if isinstance(modes, dict) else {"*": None}).items():
            if type(share) not in (int, float) or not 0 <= share <= 1:
                raise ValueError(f"{path}: accuracy.{recipe}.{mode} must be a share from 0 to 1, not {share!r}")
    return Reference(source, problems, accuracy)


def beside(reference: Reference, setting: dict[str, Any]) -> dict[str, Any]:
    """What the reference has for a setting of `summarize`: {source, rows}, and `why` where there are no rows.

    A row is an aggregation, or two of which the second is subtracted from the first: {name, ours, reference}, each
    {mean, half_width}, and difference = ours - reference. All are shares, of the last step and of the mean over the
    reference's benchmarks, on which the runs must have been validated. A mode without a counted run has no row.

    mean ± half_width is a 95 % interval of drawing responses to given problems, at most: a response to a benchmark of
    accuracy p has a variance of p (1 - p) or less. The reference is taken for one run with as many responses as ours,
    which have p. What differs from seed to seed, or with other problems, comes on top.
    """
    told, published = {"source": reference.source, "rows": []}, reference.accuracy.get(setting["setting"])
    if published is None:
        return told | {"why": f"it has {', '.join(reference.accuracy)}"}
    benchmarks = {name: name.rpartition(" mean@") for name in setting["benchmarks"] if name != MEAN}
    if sorted(source for source, _, _ in benchmarks.values()) != sorted(reference.problems):
        return told | {"why": f"it is the mean over {', '.join(reference.problems)}, and the runs have others"}

    compared: dict[str, tuple[Value, Value]] = {}
    for group in setting["groups"]:
        last = {name: numbers["last"] for name, numbers in group["benchmarks"].items()}
        ours, mode = last[setting["benchmarks"][-1]], group["mode"]
        if mode not in published or ours["mean"] is None:
            continue
        of_one_run = 0.0
        for name, (source, _, k) in benchmarks.items():
            p = min(max(last[name]["mean"], 0), 1)  # a mean reward may be outside
            of_one_run += p * (1 - p) / (reference.problems[source] * int(k)) / len(benchmarks) ** 2
        compared[mode] = Value(ours["mean"], of_one_run / len(ours["by_seed"])), Value(published[mode], of_one_run)
    for one, other in combinations(list(compared), 2):
        compared[f"{one} - {other}"] = tuple(a.minus(b) for a, b in zip(compared[one], compared[other], strict=True))
    rows = [
        {"name": name, "ours": ours.told(), "reference": theirs.told(), "difference": ours.minus(theirs).told()}
        for name, (ours, theirs) in compared.items()
    ]
    return told | {"rows": rows}


class Value(NamedTuple):
    """A share of right answers, and the variance that drawing responses gives it."""

    mean: float
    variance: float

    def minus(self, other: "Value") -> "Value":
        return Value(self.mean - other.mean, self.variance + other.variance)

    def told(self) -> dict[str, float]:
        return {"mean": self.mean, "half_width": NORMAL_95 * sqrt(self.variance)}
