#!/usr/bin/env python3
"""Draw what the three aggregations do to tokens and to signs: .github/idea.png.

A token's weight is 1 / (G * D) with D from the real ``length_divisors``, for advantages of +1 and -1.
"""

from dataclasses import dataclass
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from balanced_agg.loss.aggregation import length_divisors

PICTURE = Path(__file__).resolve().parent.parent / ".github" / "idea.png"
# mode: (name, what it does, in two lines)
RULES = {
    "seq-mean-token-mean": ("sequence", "tokens of long responses\nweigh less"),
    "group-token-mean": ("token, per group", "the sign with more tokens\ntakes over"),
    "balanced": ("balanced", "equal tokens within a sign,\nsigns keep their share"),
}
# Okabe-Ito colours, apart for the colour-blind; hatch and lightness tell them apart in black and white.
RIGHT, WRONG, INK, GREY = "#56B4E9", "#D55E00", "#222222", "#666666"
HATCH = {RIGHT: "", WRONG: "////"}


@dataclass(frozen=True)
class Group:
    """Responses to one prompt, as tokens of the right and of the wrong ones."""

    title: str
    right: list[int]
    wrong: list[int]

    @property
    def lengths(self) -> list[int]:
        return self.right + self.wrong

    @property
    def colours(self) -> list[str]:
        return [RIGHT] * len(self.right) + [WRONG] * len(self.wrong)

    def token_weights(self, mode: str) -> list[float]:
        """Of each response, the weight of one of its tokens in the loss of the group."""
        lengths = torch.tensor(self.lengths)
        mask = torch.arange(int(lengths.max())) < lengths.unsqueeze(-1)
        signs = torch.tensor([1.0] * len(self.right) + [-1.0] * len(self.wrong))
        divisors = length_divisors(mode, ["prompt"] * len(lengths), signs.unsqueeze(-1) * mask, mask)
        return (1 / (len(lengths) * divisors)).tolist()


GROUPS = [
    Group("wrong responses are longer", right=[150, 350], wrong=[400, 1000]),
    Group("right responses are longer", right=[400, 1000], wrong=[150, 350]),
    Group("all are equally long", right=[500, 500], wrong=[500, 500]),
]
HEAVIEST = max(max(group.token_weights(mode)) for group in GROUPS for mode in RULES)


def draw_responses(axes: Axes, group: Group, thicknesses: list[float], labels: list[str]) -> None:
    """One bar a response, as long as its tokens, with a label behind it."""
    axes.set(xlim=(0, 1230), ylim=(3.8, -0.55))
    axes.axis("off")
    axes.plot([0, 0], [-0.5, 3.75], color=INK, linewidth=0.9, clip_on=False)
    # The signs stand a little apart.
    places = [row + 0.25 * (colour == WRONG) for row, colour in enumerate(group.colours)]
    rows = zip(places, group.lengths, group.colours, thicknesses, labels, strict=True)
    for place, length, colour, thickness, label in rows:
        draw_bar(axes, place, 0, length, thickness, colour)
        axes.text(length + 25, place, label, va="center", color=GREY, fontsize=7.5)


def draw_shares(axes: Axes, group: Group, weights: list[float]) -> None:
    """One bar stacked of what the right and the wrong responses weigh together."""
    axes.set(xlim=(0, 1.23), ylim=(-0.5, 0.5))
    axes.axis("off")
    start = 0.0
    for sign in (RIGHT, WRONG):
        rows = zip(group.lengths, group.colours, weights, strict=True)
        share = sum(length * weight for length, colour, weight in rows if colour == sign)
        draw_bar(axes, 0, start, share, 1, sign)
        box = {"facecolor": "white", "edgecolor": "none", "boxstyle": "round,pad=0.15"}
        axes.text(start + share / 2, 0, f"{share:.0%}", ha="center", va="center", weight="bold", bbox=box)
        start += share
    axes.plot([0.5, 0.5], [-0.85, 0.85], color=INK, linewidth=1.1, clip_on=False)


def draw_bar(axes: Axes, place: float, start: float, length: float, thickness: float, colour: str) -> None:
    axes.barh(
        place,
        length,
        left=start,
        height=thickness,
        color=colour,
        edgecolor="white",
        hatch=HATCH[colour],
        linewidth=0,
    )


def draw() -> None:
    plt.rcParams.update({"font.size": 8.5, "text.color": INK, "hatch.linewidth": 1.2})
    figure = plt.figure(figsize=(8, 6.2), dpi=200)
    # Of each group: its responses, the shares of the signs, and a gap.
    grid = figure.add_gridspec(
        3 * len(GROUPS) - 1,
        1 + len(RULES),
        height_ratios=([5.5, 1, 0.7] * len(GROUPS))[:-1],
        left=0.02,
        right=0.995,
        top=0.835,
        bottom=0.085,
        wspace=0.08,
        hspace=0.22,
    )
    lefts = [grid[0, column].get_position(figure).x0 for column in range(1 + len(RULES))]
    heads = [("a group", "responses to one prompt,\nas long as their tokens"), *RULES.values()]
    for left, (name, what) in zip(lefts, heads, strict=True):
        figure.text(left, 0.985, name, fontsize=12, weight="bold", va="top")
        figure.text(left, 0.938, what, va="top", linespacing=1.25)

    for row, group in enumerate(GROUPS):
        axes = figure.add_subplot(grid[3 * row, 0])
        draw_responses(axes, group, [0.3] * len(group.lengths), [str(length) for length in group.lengths])
        axes.set_title(group.title, loc="left", fontsize=8.5, weight="bold", pad=3)
        axes = figure.add_subplot(grid[3 * row + 1, 0])
        axes.text(1, 0.5, "each sign weighs ", ha="right", va="center", color=GREY)
        axes.axis("off")
        for column, mode in enumerate(RULES, start=1):
            weights = group.token_weights(mode)
            axes = figure.add_subplot(grid[3 * row, column])
            # The whole group weighs 1, so its average token weighs 1 / tokens, and is x1.0.
            labels = [f"\u00d7{weight * sum(group.lengths):.1f}" for weight in weights]
            draw_responses(axes, group, [weight / HEAVIEST for weight in weights], labels)
            draw_shares(figure.add_subplot(grid[3 * row + 1, column]), group, weights)

    signs = [Patch(facecolor=c, edgecolor="white", hatch=HATCH[c], linewidth=0) for c in (RIGHT, WRONG)]
    figure.legend(
        signs,
        ["right: advantage > 0", "wrong: advantage < 0"],
        loc="center left",
        bbox_to_anchor=(0.01, 0.03),
        ncols=2,
        frameon=False,
        columnspacing=1.4,
        handlelength=1.8,
    )
    meaning = "thickness, \u00d7: weight of a token    area: weight of the response"
    figure.text(0.985, 0.0305, meaning, ha="right", va="center")
    PICTURE.parent.mkdir(exist_ok=True)
    figure.savefig(PICTURE, pil_kwargs={"optimize": True})


if __name__ == "__main__":
    draw()
