"""The numbers of a comparison as tables: the rows of the paper's Table 1, and what goes with them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from balanced_agg.commands.compare.groups import QUANTITIES

ACCURACY_HEADER = (
    "benchmark",
    "aggregation",
    "seeds",
    "peak %",
    "at step",
    "last %",
    "drop, points",
    "smoothed",
    "average %",
    "steps to level",
)
ACCURACY_CAPTION = (
    "Means over seeds ± half of the 95 % interval (Student's t; none for one seed). Peak and last: validation "
    "accuracy, highest and at the end; drop: peak - last. A peak is the largest of noisy estimates, so peak and drop "
    "are biased upwards, more so with more validations; smoothed: the drop of means of three validations in a row. "
    "Average: over steps, the area under the curve. Level: the highest accuracy that every run has reached. *: highest "
    "last value."
)
FINAL_HEADER = ("aggregation", "seeds", *(quantity.name.replace("_", " ") for quantity in QUANTITIES))
FINAL_CAPTION = (
    "Means over the last tenth of the steps, then over seeds. Length gap: (positive - negative) / mean of the two; "
    "positive share: of the gradient mass, under the run's own aggregation. Entropy: verl averages it as the "
    "aggregation says, so under seq-mean-token-mean it is another mean of the same policy's entropies than under the "
    "others."
)
REFERENCE_HEADER = ("aggregation", "yours, last %", "reference %", "difference, points")
REFERENCE_CAPTION = (
    "Mean over benchmarks at the last step beside {source}. Difference: yours - reference. ±: half of the 95 % "
    "interval of drawing responses, at most; the reference is taken for one run with as many responses as yours. What "
    "differs by seed, or with other problems or graders, comes on top."
)
PAIRED_HEADER = ("quantity", "aggregation", "pairs", "difference", "bootstrap, 95 %", "p", "adjusted p")
PAIRED_CAPTION = (
    "Each aggregation minus {base}, by seed: runs of one seed share the order of their data. ±: half of the 95 % "
    "interval by Student's t. Adjusted p: Holm's, for the {rows} tests of this table."
)
RUN_HEADER = ("run", "setting", "aggregation", "path", "seed", "steps", "of", "peak %", "last %", "commit")
RUN_CAPTION = "Peak and last: validation accuracy, over all benchmarks. †: cut short, in no statistic."
# Of differences: scale and digits.
SHOWN_AS = {name: (100, 1) for name in ("last", "average", "peak", "drop", "smoothed_drop")}
SHOWN_AS |= {"steps_to_level": (1, 0)} | {quantity.name: (1, quantity.digits) for quantity in QUANTITIES}


@dataclass(frozen=True)
class Table:
    """Rows of text for the terminal and for the report; the first `text_columns` are no numbers."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str
    text_columns: int


def tables_of(setting: dict[str, Any]) -> list[Table]:
    """The tables of one setting: accuracies, if any, beside the reference's, if asked for, and what a step logs."""
    final_rows = []
    for group in setting["groups"]:
        numbers = (written(group["final"][quantity.name], 1, quantity.digits) for quantity in QUANTITIES)
        final_rows.append((group["mode"], str(len(group["seeds"])), *numbers))
    final = Table(FINAL_HEADER, final_rows, FINAL_CAPTION, 1)
    accuracies = Table(ACCURACY_HEADER, list(accuracy_rows(setting)), ACCURACY_CAPTION, 2)
    tables = [accuracies] if setting["benchmarks"] else []
    if rows := setting.get("reference", {}).get("rows"):
        caption = REFERENCE_CAPTION.format(source=setting["reference"]["source"])
        tables.append(Table(REFERENCE_HEADER, list(map(reference_row, rows)), caption, 1))
    if rows := setting.get("paired"):
        base = PAIRED_CAPTION.format(base=setting["base"], rows=sum(row["p"] is not None for row in rows))
        tables.append(Table(PAIRED_HEADER, list(map(paired_row, rows)), base, 2))
    return [*tables, final]


def title(setting: dict[str, Any]) -> str:
    return setting["setting"] or "runs without a setting"


def remarks_of(summary: dict[str, Any]) -> list[str]:
    """All remarks, those on a setting after its name."""
    by_setting = [f"{title(setting)}: {remark}" for setting in summary["settings"] for remark in setting["remarks"]]
    return [*by_setting, *summary["remarks"]]


def reference_row(row: dict[str, Any]) -> tuple[str, ...]:
    return (row["name"], *(written(row[name], 100, 1) for name in ("ours", "reference", "difference")))


def paired_row(row: dict[str, Any]) -> tuple[str, ...]:
    scale, digits = SHOWN_AS.get(row["quantity"], (1, 3))
    interval = "-" if row["bootstrap"] is None else " to ".join(f"{scale * it:+.{digits}f}" for it in row["bootstrap"])
    shown = [row["p"], row["p_adjusted"]]
    tested = ("-" if p is None else f"{p:.3f}" if p >= 0.001 else "<0.001" for p in shown)
    quantity = row["quantity"].replace("_", " ") + (", points" if scale == 100 else "")
    return (quantity, row["mode"], str(row["pairs"]), written(row, scale, digits), interval, *tested)


def accuracy_rows(setting: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    """A row for each benchmark and mode; the benchmark's name stands in its first row only."""
    for benchmark in setting["benchmarks"]:
        best = best_modes(setting, benchmark)
        for i, group in enumerate(setting["groups"]):
            numbers = group["benchmarks"][benchmark]
            mark = "*" if group["mode"] in best else ""
            yield (
                benchmark if i == 0 else "",
                group["mode"],
                str(len(numbers["last"]["by_seed"])),
                written(numbers["peak"], 100, 1),
                spanned(numbers["peak_step"]),
                written(numbers["last"], 100, 1) + mark,
                written(numbers["drop"], 100, 1),
                written(numbers["smoothed_drop"], 100, 1),
                written(numbers["average"], 100, 1),
                written(numbers["steps_to_level"], 1, 0),
            )


def best_modes(setting: dict[str, Any], benchmark: str) -> set[str]:
    """The mode, or modes, with the highest mean last accuracy; none where there is nothing to choose from."""
    last = {group["mode"]: group["benchmarks"][benchmark]["last"]["mean"] for group in setting["groups"]}
    last = {mode: value for mode, value in last.items() if value is not None}
    return {mode for mode, value in last.items() if value == max(last.values())} if len(last) > 1 else set()


def written(number: dict[str, Any], scale: float, digits: int) -> str:
    if number["mean"] is None:
        return "-"
    mean = f"{scale * number['mean']:.{digits}f}"
    return mean if number["half_width"] is None else f"{mean} ± {scale * number['half_width']:.{digits}f}"


def spanned(number: dict[str, Any]) -> str:
    """The step of the peak; of several seeds, the first and the last such step."""
    steps = sorted(set(number["by_seed"].values()))
    return "-" if not steps else "–".join(str(int(step)) for step in (steps[:1] + steps[1:][-1:]))


def run_table(runs: Sequence[dict[str, Any]]) -> Table:
    rows = [
        (
            *(run[key] for key in ("name", "setting", "mode", "path")),
            str(run["seed"]),
            f"{run['last_step']}{'†' if run['cut_short'] else ''}",
            str(run["total_steps"] or "-"),
            *("-" if run[key] is None else f"{100 * run[key]:.1f}" for key in ("peak", "last")),
            (run["commit"] or "-")[:12],
        )
        for run in runs
    ]
    return Table(RUN_HEADER, rows, RUN_CAPTION, 4)
