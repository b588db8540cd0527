"""The two pictures of a study, as PNG: accuracy by step, and differences to `balanced`."""

from collections.abc import Sequence
from io import BytesIO
from typing import Any

from balanced_agg.commands.compare.summary import over_seeds
from balanced_agg.commands.plot_style import GREY, RC, Style, styles_of
from balanced_agg.commands.study.hypotheses import (
    ARITHMETIC,
    BALANCED,
    EXPLORATORY,
    MAIN,
    NUMBERS,
    SEARCH,
    Cells,
    cells_of,
    paired_test,
)
from balanced_agg.commands.study.record import Record, StudyRun
from balanced_agg.loss.rules import AGGREGATIONS

DPI = 100
RULES = (*MAIN, "token@equal-mass", *EXPLORATORY)
DIFFERENCES = ("average", "negative_length", "smoothed_drop")


def pictures(record: Record) -> dict[str, bytes]:
    """File name -> PNG, of the runs that have finished; none where none has."""
    runs = [run for run in record.runs.values() if run.finished]
    cells = cells_of(runs)
    stages = [stage for stage in (*SEARCH, *ARITHMETIC) if any((stage, rule) in cells for rule in RULES)]
    if not stages:
        return {}
    from matplotlib import rc_context

    with rc_context(RC | dict.fromkeys(("font.size", "axes.labelsize", "axes.titlesize"), 9)):
        return {
            "accuracy-by-step.png": accuracy(runs, stages),
            "differences-to-balanced.png": differences(cells, stages),
        }


def style(rule: str) -> tuple[Style, str]:
    """That of the rule as it is, and the colour inside of its markers: white for a rule beside it with equal mass."""
    name, _, scaled = rule.partition("@")
    look = styles_of([AGGREGATIONS[name]])[AGGREGATIONS[name]]
    return look, "white" if scaled and rule not in MAIN else look.colour


def accuracy(runs: Sequence[StudyRun], stages: Sequence[str]) -> bytes:
    """Mean over seeds at the validations that every seed has; a band, its 95 % interval, of the three main rules."""
    columns = min(2, len(stages))
    figure, axes = panels(-(-len(stages) // columns), columns, 4.6, 3.2)
    handles: dict[str, Any] = {}
    for axis, stage in zip(axes.flat, stages, strict=False):
        for rule in RULES:
            curves = {run.seed: run.accuracy for run in runs if (run.stage, run.rule) == (stage, rule)}
            if not curves:
                continue
            steps = sorted(set.intersection(*map(set, curves.values())))
            at = [over_seeds({seed: 100 * curve[step] for seed, curve in curves.items()}) for step in steps]
            means, main, (look, inside) = [each["mean"] for each in at], rule in MAIN, style(rule)
            if main and len(curves) > 1:
                low, high = ([each["mean"] + sign * each["half_width"] for each in at] for sign in (-1, 1))
                axis.fill_between(steps, low, high, color=look.colour, alpha=0.15, linewidth=0)
            (handles[rule],) = axis.plot(
                steps,
                means,
                color=look.colour,
                linestyle=look.dashes,
                linewidth=2 if main else 1,
                marker=look.marker,
                markersize=5 if main else 4,
                markerfacecolor=inside,
                markevery=2,
            )
        axis.set(title=stage, xlabel="training step", ylabel="validation accuracy, %")
    return png(figure, handles)


def differences(cells: Cells, stages: Sequence[str]) -> bytes:
    """Each rule minus `balanced` by seed, with its 95 % interval: a row a stage, a column a number."""
    rules = [rule for rule in RULES if rule != BALANCED and any((stage, rule) in cells for stage in stages)]
    figure, axes = panels(len(stages), len(DIFFERENCES), 3.4, 0.5 + 0.24 * len(rules), sharex="col")
    for line, stage in zip(axes, stages, strict=True):
        for column, (axis, number) in enumerate(zip(line, DIFFERENCES, strict=True)):
            label, scale, _ = NUMBERS[number]
            for place, rule in enumerate(rules):
                told, (look, inside) = paired_test(cells, stage, number, rule, BALANCED, 0).told, style(rule)
                if told["mean"] is not None:
                    axis.errorbar(
                        scale * told["mean"],
                        place,
                        xerr=scale * (told["half_width"] or 0.0),
                        fmt=look.marker,
                        color=look.colour,
                        markerfacecolor=inside,
                        markersize=5,
                        capsize=2,
                    )
            axis.axvline(0, color=GREY, linewidth=0.8)
            axis.set_yticks(range(len(rules)), rules if column == 0 else [""] * len(rules))
            axis.set_ylim(max(len(rules), 1) - 0.5, -0.5)  # also where only `balanced` has run
            axis.set_title(stage if column == 0 else "", loc="left")
            axis.set_xlabel(f"{label}\nminus that of balanced" if stage == stages[-1] else "")
    return png(figure, {})


def panels(rows: int, columns: int, width: float, height: float, **shared: str) -> tuple[Any, Any]:
    """A figure and its axes; `width` and `height` of one panel in inches, legend and labels below come on top."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * columns, height * rows + 0.5), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **shared)


def png(figure: Any, handles: dict[str, Any]) -> bytes:
    if handles:
        figure.legend(handles.values(), handles, loc="outside upper center", ncols=4, frameon=False, handlelength=3.2)
    content = BytesIO()
    figure.savefig(content, format="png", dpi=DPI, metadata={"Software": None})
    return content.getvalue()
