"""How every picture draws the aggregations: apart for the colour-blind, and in black and white."""

from collections.abc import Collection
from dataclasses import dataclass


@dataclass(frozen=True)
class Style:
    """Line of one aggregation. Colour, dashes and marker each tell the aggregations apart on their own."""

    label: str
    colour: str
    dashes: str | tuple[int, tuple[int, ...]]
    marker: str


INK, GREY = "#222222", "#666666"

# matplotlib's settings.
RC = {
    "axes.axisbelow": True,
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
    "text.parse_math": False,  # a dollar in the name of a run or a benchmark is one
}

# loss_agg_mode -> style; colours of Okabe and Ito's palette.
STYLES = {
    "balanced": Style("balanced", "#0072B2", "-", "o"),
    "group-token-mean": Style("token, per group", "#D55E00", "--", "s"),
    "token-mean": Style("token, whole batch", "#CC79A7", "-.", "D"),
    "seq-mean-token-mean": Style("sequence", "#009E73", ":", "^"),
    "seq-mean-token-sum-norm": Style("Dr. GRPO", "#E69F00", (0, (5, 1, 1, 1, 1, 1)), "v"),
}

# For labels that are no mode of ours, in this order.
FURTHER = (
    ("#56B4E9", (0, (8, 2)), "P"),
    ("#000000", (0, (1, 1)), "X"),
    ("#8C510A", (0, (3, 1, 1, 1)), "*"),
    ("#666666", (0, (6, 1, 2, 1)), "h"),
)


def styles_of(modes: Collection[str]) -> dict[str, Style]:
    """A style for each label: known aggregations first, in their order; others take the further ones in turn."""
    unknown = sorted(set(modes) - set(STYLES))
    further = {mode: Style(mode, *FURTHER[i % len(FURTHER)]) for i, mode in enumerate(unknown)}
    return {mode: style for mode, style in (STYLES | further).items() if mode in modes}
