"""The rows of each step as numbers, and the measures of the steps.

A dump does not hold all that the trainer knew. Rejection and overlong masking, tool output inside a response and a KL
term in the reward are not in it; where a run uses them, the measures logged in training are the right ones.
"""

import json
from array import array
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from balanced_agg.commands.inspect.advantages import grpo_advantages
from balanced_agg.commands.inspect.lengths import LengthCounter
from balanced_agg.commands.inspect.read import LeftOut, Step, leave_out, read, step_of
from balanced_agg.loss.diagnostics import aggregation_metrics
from balanced_agg.loss.responses import Rows, numbered
from balanced_agg.loss.rules import Rule
from balanced_agg.runs import verl_keys
from balanced_agg.runs.file_log import is_number


@dataclass(frozen=True)
class Question:
    """What is asked of the rollouts.

    Attributes:
        group_column: its values are equal within a group.
        verl_keys: whether the group is only the prompt part of a value PROMPT_SESSION_OUTPUT.
        advantage_column: None for GRPO's advantages, from the column score.
        divide_by_std: of GRPO's advantages; see `grpo_advantages`.
        max_response_length: what Dr. GRPO divides by; None takes the longest response of each step.
        rules: the aggregations to measure.
    """

    group_column: str
    verl_keys: bool
    advantage_column: str | None
    divide_by_std: bool
    max_response_length: int | None
    lengths: LengthCounter
    rules: Sequence[Rule]

    @property
    def value_column(self) -> str:
        return self.advantage_column or "score"


@dataclass(frozen=True)
class StepMeasures:
    """One step: its responses and groups, and `aggregation_metrics` of them, without those that are undefined."""

    step: Step
    responses: int
    groups: int
    metrics: dict[str, float]


class StepRows:
    """What is kept of the rows of one step: 40 bytes each. Groups and sessions are known by their hashes."""

    def __init__(self) -> None:
        self.groups, self.sessions, self.outputs = array("q"), array("q"), array("q")
        self.values, self.lengths = array("d"), array("d")


def measured_steps(
    files: Sequence[Path], question: Question, left_out: LeftOut, on_read: Callable[[int], None] = lambda size: None
) -> list[StepMeasures]:
    """The steps in order: numbers first, then files that say no step.

    `on_read` is told the bytes of each batch that was read. Rows that cannot be used go to `left_out`.
    """
    steps: dict[Step, StepRows] = defaultdict(StepRows)
    fields = (question.group_column, question.value_column, question.lengths.column)
    for path in files:
        if (step := step_of(path)) is not None:
            steps[step]  # also without a row
        for rows, size in read(path, fields, left_out):
            lengths = question.lengths.count([row[question.lengths.column] for _, row in rows])
            for (number, row), length in zip(rows, lengths, strict=True):
                if reason := _why_not(row, length, question):
                    leave_out(left_out, reason, path, number)
                else:
                    _add(steps[row["step"]], row, length, question)
            on_read(size)
    in_order = sorted(steps, key=lambda step: (isinstance(step, str), step))
    return [_measures(step, steps[step], question) for step in in_order]


def _why_not(row: dict[str, Any], length: float | None, question: Question) -> str | None:
    """Why a row is left out; None if it is not."""
    group, value = row[question.group_column], row[question.value_column]
    if row["step"] is None:
        return "no step"
    if question.verl_keys and group is not None and verl_keys.is_padding(str(group)):
        return "padding row of verl"
    if group is None:
        return f"no {question.group_column}"
    if value is None:
        return f"no {question.value_column}"
    if not isinstance(value, int | float):
        return f"{question.value_column} is no number"
    if not (is_number(value) or isinstance(value, bool)):
        return f"{question.value_column} is not finite"
    if length is None:
        return f"no length in {question.lengths.column}"
    return None


def _add(rows: StepRows, row: dict[str, Any], length: float, question: Question) -> None:
    group = row[question.group_column]
    if not isinstance(group, str):  # prompts may be lists of messages, ids numbers
        group = json.dumps(group, sort_keys=True, default=str)
    key = verl_keys.parse(group) if question.verl_keys else None
    rows.groups.append(hash(key.group if key else group))
    rows.sessions.append(hash(key.session) if key else len(rows.sessions))  # else a response of its own
    rows.outputs.append(key.output if key else 0)
    rows.values.append(row[question.value_column])
    rows.lengths.append(length)


def _measures(step: Step, rows: StepRows, question: Question) -> StepMeasures:
    if not rows.values:
        return StepMeasures(step, 0, 0, {})
    cpu = torch.device("cpu")
    groups, count = numbered(rows.groups, cpu)
    values, lengths = _tensor(rows.values), _tensor(rows.lengths)
    if question.advantage_column is None:
        sessions, _ = numbered(rows.sessions, cpu)
        values = grpo_advantages(values, groups, sessions, rows.outputs, question.divide_by_std)
    budget = question.max_response_length or max(1, int(lengths.max()))
    responses = Rows.of_lengths(rows.groups, rows.sessions, lengths, values).responses(budget)
    return StepMeasures(step, responses.total, count, aggregation_metrics(responses, question.rules))


def _tensor(numbers: array) -> Tensor:
    return torch.frombuffer(numbers, dtype=torch.double)
