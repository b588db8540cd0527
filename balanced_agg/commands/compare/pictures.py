"""The pictures of a comparison, as PNG."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from balanced_agg.commands.compare.groups import Setting
from balanced_agg.commands.compare.quantities import QUANTITIES, Quantity
from balanced_agg.commands.compare.summary import MEAN, accuracy, rows_of
from balanced_agg.commands.plot_style import GREY, INK, Style, styles_of
from balanced_agg.runs.run import Run

RC = {
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.6,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "text.color": INK,
}
DPI = 150
CUT_SHORT = ", cut short"
SMOOTHED_FROM, WINDOW = 201, 11  # steps
OVERVIEW = ("validation_accuracy", "response_length", "length_gap", "positive_share")


@dataclass(frozen=True)
class Plot:
    """One quantity to draw.

    Attributes:
        name: of its file.
        label: of its axis.
        of: the curve of a run: step -> value; empty where the run does not have it.
        smoothed: whether curves of a run are running means.
    """

    name: str
    label: str
    of: Callable[[Run, Setting], dict[int, float]]
    smoothed: bool = False

    def in_some_run(self, setting: Setting) -> bool:
        return any(self.of(run, setting) for run in setting.runs)


def plots(settings: Sequence[Setting]) -> tuple[list[Plot], list[str]]:
    """What there is to draw, and a remark on each quantity that no run logged."""
    candidates = [*accuracy_plots(settings), *(quantity_plot(quantity, settings) for quantity in QUANTITIES)]
    drawn = [plot for plot in candidates if any(map(plot.in_some_run, settings))]
    absent = [plot.name.replace("_", " ") for plot in candidates if plot not in drawn]
    return drawn, [f"No picture of {', '.join(absent)}: no run logged it."] if absent else []


def accuracy_plots(settings: Sequence[Setting]) -> Iterator[Plot]:
    """Accuracy over all benchmarks of a setting, and, where one has several, each benchmark on its own."""
    benchmarks = list(dict.fromkeys(name for setting in settings for name in setting.benchmarks))
    over = {row for setting in settings for row in rows_of(setting)[-1:]}
    which = "mean of benchmarks" if over == {MEAN} else ", ".join(sorted(over))
    yield Plot(
        "validation_accuracy",
        f"validation accuracy, %\n{which}".strip(),
        lambda run, setting: percent(accuracy(run, setting, rows_of(setting)[-1])) if setting.benchmarks else {},
    )
    if MEAN in over:
        for name in benchmarks:
            yield Plot(
                f"validation_accuracy-{re.sub(r'[^A-Za-z0-9_.@-]+', '_', name)}",
                f"validation accuracy, %\n{name}",
                lambda run, setting, name=name: percent(run.series(setting.benchmarks.get(name))),
            )


def percent(series: dict[int, float]) -> dict[int, float]:
    return {step: 100 * value for step, value in series.items()}


def quantity_plot(quantity: Quantity, settings: Sequence[Setting]) -> Plot:
    if any(len(quantity.of(run)) >= SMOOTHED_FROM for setting in settings for run in setting.runs):
        return Plot(quantity.name, quantity.label, lambda run, setting: smooth(quantity.of(run)), smoothed=True)
    return Plot(quantity.name, quantity.label, lambda run, setting: quantity.of(run))


def over_seeds(series: Sequence[dict[int, float]]) -> Any:
    """pandas columns mean, min and max over the seeds, at the steps that every seed has.

    Where only some seeds have a value, their mean would jump with who is in it.
    """
    import pandas as pd

    common = pd.concat([pd.Series(one, dtype=float) for one in series] or [pd.Series()], axis=1, join="inner")
    return common.sort_index().agg(["mean", "min", "max"], axis=1)


def smooth(series: dict[int, float]) -> dict[int, float]:
    """Centred running mean over WINDOW logged steps; over those that there are, at both ends."""
    import pandas as pd

    return pd.Series(series).sort_index().rolling(WINDOW, center=True, min_periods=1).mean().to_dict()


def picture(plot: Plot, settings: Sequence[Setting]) -> bytes:
    """One panel a setting."""
    settings = [setting for setting in settings if plot.in_some_run(setting)]
    columns = min(3, len(settings))
    rows = -(-len(settings) // columns)
    panels = [(plot, setting, setting.name if len(settings) > 1 else "") for setting in settings]
    return draw(panels, rows, columns, (5.8 if columns == 1 else 4.6) * columns, 4.0 * rows)


def overview(available: Sequence[Plot], settings: Sequence[Setting]) -> bytes | None:
    """What decides between modes on one picture of 1600 pixels: two by two, or a row for each of several settings."""
    chosen = [plot for name in OVERVIEW for plot in available if plot.name == name]
    if not chosen:
        return None
    if len(settings) == 1:
        columns = min(2, len(chosen))
        rows = -(-len(chosen) // columns)
    else:
        columns, rows = len(chosen), len(settings)
    panels = [(plot, setting, setting.name if len(settings) > 1 else "") for setting in settings for plot in chosen]
    return draw(panels, rows, columns, 1600 / DPI, 3.6 * rows if columns < 3 else 2.9 * rows)


def draw(panels: Sequence[tuple[Plot, Setting, str]], rows: int, columns: int, width: float, height: float) -> bytes:
    """PNG of (plot, setting, title) panels in rows; width and height in inches."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    styles = styles_of(list(dict.fromkeys(group.mode for _, setting, _ in panels for group in setting.groups)))
    text = dict.fromkeys(("font.size", "axes.labelsize", "axes.titlesize"), 11 if columns < 3 else 9)
    with pyplot.rc_context(RC | text):
        figure, axes = pyplot.subplots(rows, columns, figsize=(width, height), layout="constrained", squeeze=False)
        figure.get_layout_engine().set(w_pad=0.08, h_pad=0.06)  # inches
        for axis in axes.flat[len(panels) :]:
            axis.set_axis_off()
        handles: dict[str, Any] = {}
        for axis, (plot, setting, title) in zip(axes.flat, panels, strict=False):
            handles |= draw_panel(axis, plot, setting, styles)
            axis.set_ylabel(plot.label)
            axis.set_xlabel(f"step (running mean of {WINDOW})" if plot.smoothed else "training step")
            axis.set_title(title, loc="left")
        # Single runs behind the modes.
        labels = sorted(handles, key=lambda label: label.endswith(CUT_SHORT))
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
        pyplot.close(figure)
    return png.getvalue()


def draw_panel(axis: Any, plot: Plot, setting: Setting, styles: dict[str, Style]) -> dict[str, Any]:
    """Lines and bands of each mode, thin lines of runs that were cut short; what goes into the legend, by label."""
    handles = {}
    for group in setting.groups:
        style = styles[group.mode]
        line = {"color": style.colour, "linestyle": style.dashes}
        found = over_seeds([plot.of(run, setting) for run in group.full_length])
        if len(found):
            axis.fill_between(found.index, found["min"], found["max"], color=style.colour, alpha=0.15, linewidth=0)
            marks = {"marker": style.marker, "markersize": 5.5, "markevery": max(1, len(found) // 8)}
            (handles[style.label],) = axis.plot(found.index, found["mean"], **line, **marks, linewidth=2)
        for run in group.cut_short:
            if series := plot.of(run, setting):
                label = style.label + CUT_SHORT
                steps = sorted(series)
                (handles[label],) = axis.plot(
                    steps, [series[step] for step in steps], **line, linewidth=0.9, marker="x", markevery=[-1]
                )
    return handles
