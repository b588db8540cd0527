"""The measures of a dump as tables and as JSON."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from balanced_agg.commands.inspect.answer import MEASURES, sentences, summary
from balanced_agg.commands.inspect.read import LeftOut
from balanced_agg.commands.inspect.steps import StepMeasures
from balanced_agg.commands.terminal import print_table
from balanced_agg.loss.rules import Rule

UNDEFINED = "-"
# Columns of the tables of steps -> measure and format.
LENGTHS = {
    "responses": ("responses", "{}"),
    "groups": ("groups", "{}"),
    "mixed": ("mixed_groups", "{:.0%}"),
    "CV": ("within_group_length_cv", "{:.2f}"),
    "positive": ("positive_length", "{:.0f}"),
    "negative": ("negative_length", "{:.0f}"),
    "gap": ("length_gap_within_group", "{:+z.2f}"),
}
SHARES = {
    **{name: (f"{name}/positive_share", "{:.1%}") for name in ("sequence", "token", "batch_token", "balanced")},
    "drift": ("token/drift", "{:+z.4f}"),
}
MEASURE_FORMATS = dict(zip(MEASURES, ("{:.1%}", "{:+z.4f}", "{:.2f}", "{:.2f}", "{:.1f}"), strict=True))


def print_tables(steps: Sequence[StepMeasures], unit: str, rules: Sequence[Rule]) -> None:
    """Two tables with a row for each step, narrow enough for 80 columns, and one with a row for each aggregation."""
    shares = "Share of the gradient on positive responses under each aggregation; drift under token"
    for title, columns in ((f"Responses and their lengths in {unit}", LENGTHS), (shares, SHARES)):
        rows = [(str(step.step), *_cells(vars(step) | step.metrics, columns.values())) for step in steps]
        print_table(("step", *columns), rows, title)
        print()
    print_table(
        ("aggregation", *(name.replace("_", " ") for name in MEASURES)),
        [(name, *_cells(measures, MEASURE_FORMATS.items())) for name, measures in summary(steps, rules).items()],
        title=f"Mean over {len(steps)} steps" if len(steps) > 1 else f"Step {steps[0].step}",
    )


def legend(rules: Sequence[Rule]) -> list[str]:
    """What the columns of the tables are, in a line each."""
    modes = ", ".join(f"{rule.name} {rule.mode}" for rule in rules if rule.name != rule.mode)
    return [
        "mixed: groups with responses of both signs of the advantage.",
        "CV: standard deviation over mean of the lengths in a group, mean over groups.",
        "positive, negative: mean length of the responses with such an advantage.",
        "gap: (positive - negative) / their mean within a mixed group, mean over groups.",
        "drift: value of the on-policy loss.",
        "long token weight: weight of a token in the longest quarter of the responses over that in the shortest; "
        "within sign: among the responses of one sign in a group.",
        "effective sequences: as many responses with equal parts in the gradient would be as even.",
        f"aggregations, as loss_agg_mode: {modes}.",
        f"{UNDEFINED}: undefined, and in no mean.",
    ]


def as_data(
    steps: Sequence[StepMeasures], left_out: LeftOut, conditions: dict[str, Any], rules: Sequence[Rule]
) -> dict[str, Any]:
    """All of it, ready for JSON. Shares are 0 to 1; measures that are undefined are left out of a step."""
    return {
        **conditions,
        "steps": list(map(asdict, steps)),
        "summary": summary(steps, rules),
        "answer": sentences(steps),
        "left_out": left_out,
    }


def _cells(measures: Mapping[str, Any], columns: Iterable[tuple[str, str]]) -> list[str]:
    values = [(measures.get(name), form) for name, form in columns]
    return [UNDEFINED if value is None else form.format(value) for value, form in values]
