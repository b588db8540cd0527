"""The measures of a dump as a picture: curves over the steps, or bars where there is one step."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from balanced_agg.atomic_write import atomic_write
from balanced_agg.commands.inspect.steps import StepMeasures
from balanced_agg.commands.plot_style import GREY, INK, RC, STYLES, Style
from balanced_agg.loss.rules import AGGREGATIONS

# Dr. GRPO and token-mean divide every response by one number, so that their shares and weights are the same.
DRAWN = {name: STYLES[AGGREGATIONS[name]] for name in ("balanced", "token", "batch_token", "sequence")}
NOTE = f"Dr. GRPO has the shares and token weights of {DRAWN['batch_token'].label}."
GAP = Style("same prompt", INK, "-", "o")
BATCH_GAP = Style("whole batch", GREY, "--", "s")
MARKERS = 12
# Balanced is drawn first, broad and pale: sequence often lies on it.
BROAD = {"linewidth": 5, "alpha": 0.45}


def draw(steps: Sequence[StepMeasures], out: Path, unit: str) -> None:
    """Write the picture as PNG: positive share, length gap, token weight of long responses, length CV."""
    with rc_context(RC):
        figure = Figure(figsize=(10, 7), layout="constrained")
        (share, gap), (weight, spread) = figure.subplots(2, 2)
        share.set_title("Share of the gradient on positive responses, %")
        weight.set_title("Token weight, longest / shortest quarter")
        gap.set_title("Length gap, (positive - negative) / mean")
        spread.set_title("Length CV within a group")
        panel = _bars if len(steps) == 1 else _curves
        panel(share, steps, {f"{name}/positive_share": style for name, style in DRAWN.items()}, scale=100)
        panel(weight, steps, {f"{name}/long_token_weight": style for name, style in DRAWN.items()})
        panel(gap, steps, {"length_gap_within_group": GAP, "length_gap": BATCH_GAP})
        panel(spread, steps, {"within_group_length_cv": GAP})
        if len(steps) > 1:
            # Differences of a few points shall not look like large ones.
            low, high = share.get_ylim()
            share.set_ylim(min(low, 40), max(high, 60))
            for axes in (weight, gap, spread):
                axes.axhline(0, color=INK, linewidth=0.8)
            gap.legend(fontsize=8)
            figure.legend(*share.get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
        of = f"step {steps[0].step}" if len(steps) == 1 else f"{len(steps)} steps"
        figure.suptitle(
            f"What each aggregation would do to these rollouts: {of}, lengths in {unit}\n{NOTE}", fontsize=11
        )
        with atomic_write(out) as temporary:
            figure.savefig(temporary, format="png", dpi=150)


def _curves(axes: Axes, steps: Sequence[StepMeasures], curves: dict[str, Style], scale: float = 1) -> None:
    numbered = all(isinstance(step.step, int) for step in steps)
    xs = [step.step if numbered else place for place, step in enumerate(steps)]
    for key, style in curves.items():
        # A step where it is undefined is a hole in the curve.
        ys = [scale * step.metrics.get(key, float("nan")) for step in steps]
        axes.plot(
            xs,
            ys,
            label=style.label,
            color=style.colour,
            linestyle=style.dashes,
            marker=style.marker,
            markersize=4,
            markevery=max(1, len(xs) // MARKERS),
            **(BROAD if style is STYLES["balanced"] else {}),
        )
    axes.set_xlabel("step")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if not numbered:
        axes.set_xticks(xs, [str(step.step) for step in steps], rotation=20, ha="right")


def _bars(axes: Axes, steps: Sequence[StepMeasures], bars: dict[str, Style], scale: float = 1) -> None:
    (step,) = steps
    values = {style.label: scale * step.metrics[key] for key, style in bars.items() if key in step.metrics}
    colours = [style.colour for key, style in bars.items() if key in step.metrics]
    drawn = axes.barh(list(values), list(values.values()), color=colours, height=0.6)
    axes.bar_label(drawn, fmt="{:.1f}" if scale > 1 else "{:.2f}", padding=3)
    axes.margins(x=0.15)
    axes.set_ylim(3.6, -0.6)
    axes.axvline(0, color=INK, linewidth=0.8)
    balanced = STYLES["balanced"].label
    if balanced in values:
        axes.axvline(values[balanced], color=INK, linewidth=1, linestyle="--")
