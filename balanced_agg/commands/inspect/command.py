"""`balanced-agg inspect`: what each aggregation would do to rollouts that are already on disk."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn

from balanced_agg.commands.inspect.answer import sentences
from balanced_agg.commands.inspect.lengths import length_counter
from balanced_agg.commands.inspect.read import LeftOut, columns_of, find_files
from balanced_agg.commands.inspect.steps import Question, measured_steps
from balanced_agg.commands.inspect.table import as_data, legend, print_tables
from balanced_agg.commands.terminal import messages, print_json, print_lines, progress
from balanced_agg.loss.rules import RULES, rule_of


def run(
    rollouts: Sequence[Path],
    out: Path | None = None,
    as_json: bool = False,
    tokenizer: str | None = None,
    length_field: str | None = None,
    length_in: str | None = None,
    max_response_length: int | None = None,
    group_field: str | None = None,
    advantage_field: str | None = None,
    divide_by_std: bool = True,
    further_rules: Sequence[str] = (),
) -> None:
    """Measure the rollouts and print what was found; the options are those of the command.

    ValueError for an option or a file that cannot be used, and if no row can be; nothing has been printed then.
    """
    if advantage_field and not divide_by_std:
        raise ValueError("--advantage-field and --no-std exclude each other; --no-std is for advantages from scores")
    if out is not None and out.suffix != ".png":
        raise ValueError(f"--out {out} is no .png file; give the picture a name that ends so")
    files = find_files(rollouts)
    columns = columns_of(files)
    listed = ", ".join(sorted(columns)) or "no column in common"
    group_column = group_field or next((name for name in ("uid", "input") if name in columns), None)
    if group_column is None:
        raise ValueError(
            f"the rollouts have neither uid nor input, but {listed}; name the column that is equal within a group by "
            "--group-field"
        )
    for name in (group_column, advantage_field or "score"):
        if name not in columns:
            raise ValueError(f"not all rollouts have a column {name}; they have {listed}")
    question = Question(
        group_column,
        verl_keys=group_field is None and group_column == "uid",
        advantage_column=advantage_field,
        divide_by_std=divide_by_std,
        max_response_length=max_response_length,
        lengths=length_counter(columns, tokenizer, length_field, length_in, max_response_length),
        rules=[*RULES.values(), *map(rule_of, further_rules)],
    )

    left_out: LeftOut = {}
    with progress(TextColumn("reading"), BarColumn(), DownloadColumn(), TimeRemainingColumn()) as bar:
        task = bar.add_task("reading", total=sum(path.stat().st_size for path in files))
        steps = measured_steps(files, question, left_out, on_read=lambda size: bar.advance(task, size))
    remarks = [f"Left out: {rows['rows']} ({reason}; first {rows['first']})" for reason, rows in left_out.items()]
    if not any(step.responses for step in steps):
        raise ValueError(f"no row of {', '.join(map(str, rollouts))} can be used: {'; '.join(remarks) or 'empty'}")

    conditions = {"files": list(map(str, files)), **_conditions(question)}
    if as_json:
        print_json(as_data(steps, left_out, conditions, question.rules))
    else:
        print_tables(steps, question.lengths.unit, question.rules)
        limit = max_response_length or "the longest response of each step"
        made_from = [
            "Lengths: {lengths}. Groups: {groups}. Advantages: {advantages}.".format_map(conditions),
            f"Dr. GRPO divides by {limit}.",
        ]
        for lines in (sentences(steps), [*made_from, *remarks], legend(question.rules)):
            print_lines(["", *lines])
    if out is not None:
        from balanced_agg.commands.inspect.picture import draw

        draw(steps, out, question.lengths.unit)
        messages.print(f"written: {out}")


def _conditions(question: Question) -> dict[str, Any]:
    """The conditions under which the measures hold."""
    if question.advantage_column:
        advantages = f"column {question.advantage_column}"
    elif question.divide_by_std:
        advantages = "GRPO's, from score"
    else:
        advantages = "Dr. GRPO's, from score (not divided by the deviation)"
    same_prompt = ": the same prompt twice in a step is one group" if question.group_column == "input" else ""
    return {
        "lengths": question.lengths.source,
        "advantages": advantages,
        "groups": f"column {question.group_column}{same_prompt}",
        "max_response_length": question.max_response_length,
    }
