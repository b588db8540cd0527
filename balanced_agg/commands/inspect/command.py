"""`balanced-agg inspect`: the steps in order."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from balanced_agg.commands.inspect.answer import sentences
from balanced_agg.commands.inspect.lengths import length_counter
from balanced_agg.commands.inspect.read import LeftOut, columns_of, find_files, find_parts, step_order
from balanced_agg.commands.inspect.steps import Question, StepMeasures, measured_steps
from balanced_agg.commands.inspect.table import as_data, legend, print_tables
from balanced_agg.commands.terminal import messages, print_lines


def run(
    rollouts: Sequence[Path],
    out: Path | None = None,
    as_json: bool = False,
    length_field: str | None = None,
    tokenizer: str | None = None,
    length_in: str | None = None,
    max_response_length: int | None = None,
    group_field: str | None = None,
    advantage_field: str | None = None,
    divide_by_std: bool = True,
) -> None:
    """Measure the rollouts and print what was found; the options are those of the command.

    ValueError for an option or a file that cannot be used, and if no row can be; nothing has been printed then.
    """
    if out is not None and out.suffix != ".png":
        raise ValueError(f"--out {out} is no .png file; give the picture a name that ends so")
    files = find_files(rollouts)
    columns = columns_of(files)
    question = Question(
        **_grouping(columns, group_field),
        value_column=_present(columns, advantage_field or "score"),
        values_are_advantages=advantage_field is not None,
        divide_by_std=divide_by_std,
        max_response_length=max_response_length,
        lengths=length_counter(columns, length_field, tokenizer, length_in, max_response_length),
    )
    left_out = LeftOut()
    steps = _measure(files, question, left_out)
    if not any(step.responses for step in steps):
        raise ValueError(
            f"no row of {', '.join(map(str, rollouts))} can be used: {'; '.join(_remarks(left_out)) or 'empty'}"
        )

    made_from = _made_from(files, question)
    if as_json:
        print(json.dumps(as_data(steps, left_out, made_from), indent=2))
    else:
        print_tables(steps, question.lengths.unit)
        for lines in (sentences(steps), [*_conditions(made_from), *_remarks(left_out)], legend()):
            print_lines(["", *lines])
    if out is not None:
        from balanced_agg.commands.inspect.picture import draw

        draw(steps, out, question.lengths.unit)
        messages.print(f"written: {out}")


def _grouping(columns: frozenset[str], group_field: str | None) -> dict[str, Any]:
    if group_field is not None:
        return {"group_column": _present(columns, group_field), "verl_keys": False}
    if "uid" in columns:
        return {"group_column": "uid", "verl_keys": True}
    if "input" in columns:
        return {"group_column": "input", "verl_keys": False}
    raise ValueError(
        f"the rollouts have neither uid nor input, but {_listed(columns)}; name the column that is equal within a "
        "group by --group-field"
    )


def _present(columns: frozenset[str], name: str) -> str:
    if name not in columns:
        raise ValueError(f"not all rollouts have a column {name}; they have {_listed(columns)}")
    return name


def _listed(columns: frozenset[str]) -> str:
    return ", ".join(sorted(columns)) or "no column in common"


def _measure(files: Sequence[Path], question: Question, left_out: LeftOut) -> list[StepMeasures]:
    parts = find_parts(files)
    progress = Progress(
        TextColumn("reading"),
        BarColumn(),
        DownloadColumn(),
        TimeRemainingColumn(),
        console=messages,
        transient=True,
        disable=not messages.is_terminal,
    )
    with progress:
        task = progress.add_task("reading", total=sum(part.size for part in parts))
        found = measured_steps(parts, question, left_out, on_read=lambda size: progress.advance(task, size))
        return sorted(found, key=lambda step: step_order(step.step))


def _made_from(files: Sequence[Path], question: Question) -> dict[str, Any]:
    """The conditions under which the measures hold."""
    if question.values_are_advantages:
        advantages = f"column {question.value_column}"
    else:
        advantages = (
            "GRPO's, from score" if question.divide_by_std else "Dr. GRPO's, from score (not divided by the deviation)"
        )
    groups = f"column {question.group_column}"
    if question.group_column == "input":
        groups += ": the same prompt twice in a step is one group"
    return {
        "files": list(map(str, files)),
        "lengths": question.lengths.source,
        "advantages": advantages,
        "groups": groups,
        "max_response_length": question.max_response_length,
    }


def _conditions(made_from: dict[str, Any]) -> list[str]:
    limit = made_from["max_response_length"] or "the longest response of each step"
    return [
        f"Lengths: {made_from['lengths']}. Groups: {made_from['groups']}. Advantages: {made_from['advantages']}.",
        f"Dr. GRPO divides by {limit}.",
    ]


def _remarks(left_out: LeftOut) -> list[str]:
    return [f"Left out: {rows} ({reason}; first {left_out.first[reason]})" for reason, rows in left_out.counts.items()]
