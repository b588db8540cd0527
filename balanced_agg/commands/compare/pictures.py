"""The pictures of a comparison, as PNG."""

import re
from collections.abc import Iterator, Sequence
from functools import partial
from io import BytesIO
from itertools import islice
from typing import Any

from balanced_agg.commands.compare.groups import MEAN, QUANTITIES, Quantity, Setting
from balanced_agg.commands.plot_style import RC, Style, styles_of
from balanced_agg.runs.run import Run

DPI = 150
CUT_SHORT = ", cut short"
REFERENCE = ", reference"
# Setting -> rows of reference.beside
References = dict[str, list[dict[str, Any]]]
LONGEST_NAME = 150  # characters of a file's name
MOST_BENCHMARKS = 30  # with a picture of their own
SMOOTHED_FROM, WINDOW = 201, 11  # steps
ACCURACY = "validation_accuracy"
OVERVIEW = (ACCURACY, "response_length", "length_gap", "positive_share")


def drawable(settings: Sequence[Setting]) -> tuple[list[Quantity], list[str]]:
    """What there is to draw, and a remark on each quantity that no run logged."""
    runs = [run for setting in settings for run in setting.runs]
    candidates = [*accuracies(settings), *QUANTITIES]
    drawn = [quantity for quantity in candidates if any(map(quantity.of, runs))]
    absent = [quantity.name.replace("_", " ") for quantity in candidates if quantity not in drawn]
    remarks = [f"No picture of {', '.join(absent)}: no run logged it."] if absent else []
    if (others := len({name for setting in settings for name in setting.benchmarks}) - MOST_BENCHMARKS) > 0:
        remarks.append(f"No picture of {others} further benchmarks: at most {MOST_BENCHMARKS} have one each.")
    return drawn, remarks


def accuracies(settings: Sequence[Setting]) -> Iterator[Quantity]:
    """Accuracy over all benchmarks of a setting, and, where one has several, each benchmark on its own."""
    by_name = {setting.name: setting for setting in settings}

    def percent(run: Run, row: str | None = None) -> dict[int, float]:
        """Of a benchmark; without one, over all of the run's setting."""
        setting = by_name[run.setting]
        row = row or (setting.rows or [None])[-1]
        found = setting.accuracy(run, row) if row in setting.rows else {}
        return {step: 100 * value for step, value in found.items()}

    over = sorted({row for setting in settings for row in setting.rows[-1:]})
    which = "mean of benchmarks" if over == [MEAN] else ", ".join(over)
    yield Quantity(ACCURACY, f"validation accuracy, %\n{which}".strip(), percent)
    if MEAN in over:
        names: set[str] = set()
        benchmarks = dict.fromkeys(benchmark for setting in settings for benchmark in setting.benchmarks)
        for benchmark in islice(benchmarks, MOST_BENCHMARKS):
            name = f"{ACCURACY}-{re.sub(r'[^A-Za-z0-9_.@-]+', '_', benchmark)[:LONGEST_NAME]}"
            while name in names:  # of two that differ in other characters, or far behind
                name += "_"
            names.add(name)
            yield Quantity(name, f"validation accuracy, %\n{benchmark[:LONGEST_NAME]}", partial(percent, row=benchmark))


def over_seeds(curves: Sequence[Any]) -> Any:
    """pandas columns mean, min and max over the seeds, at the steps that every seed has.

    Where only some seeds have a value, their mean would jump with who is in it.
    """
    import pandas as pd

    common = pd.concat(curves or [pd.Series(dtype=float)], axis=1, join="inner")
    return common.sort_index().agg(["mean", "min", "max"], axis=1)


def smooth(series: Any) -> Any:
    """Centred running mean over WINDOW logged steps; over those that there are, at both ends."""
    return series.rolling(WINDOW, center=True, min_periods=1).mean()


def picture(quantity: Quantity, settings: Sequence[Setting], references: References) -> bytes:
    """One panel a setting."""
    panels = [(quantity, setting) for setting in settings if any(map(quantity.of, setting.runs))]
    columns = min(3, len(panels))
    return draw(panels, columns, (5.8 if columns == 1 else 4.6) * columns, 4.0, references)


def overview(available: Sequence[Quantity], settings: Sequence[Setting], references: References) -> bytes | None:
    """What decides between modes on one picture of 1600 pixels: two by two, or a row for each of several settings."""
    chosen = [quantity for name in OVERVIEW for quantity in available if quantity.name == name]
    if not chosen:
        return None
    columns = min(2, len(chosen)) if len(settings) == 1 else len(chosen)
    panels = [(quantity, setting) for setting in settings for quantity in chosen]
    return draw(panels, columns, 1600 / DPI, 3.6 if columns < 3 else 2.9, references)


def draw(
    panels: Sequence[tuple[Quantity, Setting]], columns: int, width: float, row_height: float, references: References
) -> bytes:
    """PNG of panels in rows; `width` of the picture and `row_height` in inches."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    rows = -(-len(panels) // columns)
    styles = styles_of({mode for _, setting in panels for mode in setting.groups})
    several = len({setting.name for _, setting in panels}) > 1
    text = dict.fromkeys(("font.size", "axes.labelsize", "axes.titlesize"), 11 if columns < 3 else 9)
    with rc_context(RC | text):
        figure = Figure(figsize=(width, row_height * rows), layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False)
        figure.get_layout_engine().set(w_pad=0.08, h_pad=0.06)  # inches
        for axis in axes.flat[len(panels) :]:
            axis.set_axis_off()
        handles: dict[str, Any] = {}
        for axis, (quantity, setting) in zip(axes.flat, panels, strict=False):
            handles |= draw_panel(axis, quantity, setting, styles)
            if quantity.name == ACCURACY:
                handles |= draw_reference(axis, setting, references.get(setting.name, []), styles)
            axis.set_title(setting.name if several else "", loc="left")
        # References and single runs behind the modes.
        labels = sorted(handles, key=lambda label: (label.endswith(CUT_SHORT), label.endswith(REFERENCE)))
        figure.legend(
            [handles[label] for label in labels],
            labels,
            loc="outside upper center",
            ncols=max(1, min(len(labels), int(width / 2.5))),
            frameon=False,
            handlelength=3.4,
        )
        png = BytesIO()
        figure.savefig(png, format="png", dpi=DPI)
    return png.getvalue()


def draw_panel(axis: Any, quantity: Quantity, setting: Setting, styles: dict[str, Style]) -> dict[str, Any]:
    """Lines and bands of each mode, thin lines of runs that were cut short; what goes into the legend, by label."""
    import pandas as pd

    smoothed = any(len(quantity.of(run)) >= SMOOTHED_FROM for run in setting.runs)

    def curve(run: Run) -> pd.Series:
        series = pd.Series(quantity.of(run), dtype=float).sort_index()
        return smooth(series) if smoothed else series

    axis.set_ylabel(quantity.label)
    axis.set_xlabel(f"step (running mean of {WINDOW})" if smoothed else "training step")
    handles = {}
    for mode, group in setting.groups.items():
        style = styles[mode]
        line = {"color": style.colour, "linestyle": style.dashes}
        found = over_seeds([curve(run) for run in group])
        if len(found):
            axis.fill_between(found.index, found["min"], found["max"], color=style.colour, alpha=0.15, linewidth=0)
            marks = {"marker": style.marker, "markersize": 5.5, "markevery": max(1, len(found) // 8)}
            (handles[style.label],) = axis.plot(found.index, found["mean"], **line, **marks, linewidth=2)
        for run in setting.cut_short:
            if run.mode == mode and quantity.of(run):
                label = style.label + CUT_SHORT
                (handles[label],) = axis.plot(curve(run), **line, linewidth=0.9, marker="x", markevery=[-1])
    return handles


def draw_reference(axis: Any, setting: Setting, rows: list[dict[str, Any]], styles: dict[str, Style]) -> dict[str, Any]:
    """Hollow markers behind the last step, a mode beside the other, with the interval of drawing responses."""
    handles = {}
    shown = [(row["name"], row["reference"]) for row in rows if row["name"] in setting.groups]
    last = max(step for run in setting.runs for step in setting.accuracy(run, setting.rows[-1])) if shown else 0
    for place, (mode, reference) in enumerate(shown, 1):
        handles[styles[mode].label + REFERENCE] = axis.errorbar(
            last * (1 + 0.03 * place),
            100 * reference["mean"],
            100 * reference["half_width"],
            fmt=styles[mode].marker,
            color=styles[mode].colour,
            markerfacecolor="none",
            capsize=3,
        )
    return handles
