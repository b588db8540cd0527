"""The rows of a step as numbers, and the measures of the step once no further row can come."""

import json
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from math import isfinite
from typing import Any

import torch
from torch import Tensor

from balanced_agg.commands.inspect.advantages import grpo_advantages
from balanced_agg.commands.inspect.lengths import LengthCounter
from balanced_agg.commands.inspect.read import Batch, LeftOut, Part, Step, read
from balanced_agg.loss.diagnostics import aggregation_metrics
from balanced_agg.runs import verl_keys


@dataclass(frozen=True)
class Question:
    """What is asked of the rollouts.

    Attributes:
        group_column: its values are equal within a group.
        verl_keys: whether the group is only the prompt part of a value PROMPT_SESSION_OUTPUT.
        value_column: scores, or advantages if `values_are_advantages`.
        divide_by_std: of GRPO's advantages; see `grpo_advantages`.
        max_response_length: what Dr. GRPO divides by; None takes the longest response of each step.
    """

    group_column: str
    verl_keys: bool
    value_column: str
    values_are_advantages: bool
    divide_by_std: bool
    max_response_length: int | None
    lengths: LengthCounter


@dataclass(frozen=True)
class StepMeasures:
    """One step: its responses and groups, and `aggregation_metrics` of them, without those that are undefined."""

    step: Step
    responses: int
    groups: int
    metrics: dict[str, float]


class StepRows:
    """What is kept of the rows of one step: five numbers each, and 16 bytes for each group and session."""

    def __init__(self) -> None:
        self.group_numbers: dict[bytes, int] = {}
        self.session_numbers: dict[bytes, int] = {}
        self.groups, self.sessions, self.outputs = array("q"), array("q"), array("q")
        self.values, self.lengths = array("d"), array("d")

    def add(self, group: str, session: str | None, output: int, value: float, length: float) -> None:
        """Add a row; without a session it is a response of its own."""
        session_key = _digest(session) if session is not None else len(self.values).to_bytes(8)
        self.groups.append(self.group_numbers.setdefault(_digest(group), len(self.group_numbers)))
        self.sessions.append(self.session_numbers.setdefault(session_key, len(self.session_numbers)))
        self.outputs.append(output)
        self.values.append(value)
        self.lengths.append(length)

    def measures(self, step: Step, question: Question) -> StepMeasures:
        if not self.values:
            return StepMeasures(step, 0, 0, {})
        values, lengths, groups, sessions = map(_tensor, (self.values, self.lengths, self.groups, self.sessions))
        if not question.values_are_advantages:
            values = grpo_advantages(values, groups, sessions, self.outputs, question.divide_by_std)
        budget = question.max_response_length or max(1, int(lengths.max()))
        metrics = aggregation_metrics(self.groups, lengths, values, budget)
        return StepMeasures(step, len(values), len(self.group_numbers), metrics)


def measured_steps(
    parts: Sequence[Part], question: Question, left_out: LeftOut, on_read: Callable[[int], None] = lambda size: None
) -> Iterator[StepMeasures]:
    """Yield every step as soon as no part is left that can add to it, and free its rows.

    `on_read` is told the bytes of each batch that was read. Rows that cannot be used go to `left_out`.
    """
    last_part = {step: number for number, part in enumerate(parts) for step in part.steps or ()}
    last_of_any = max((number for number, part in enumerate(parts) if part.steps is None), default=-1)
    unfinished: dict[Step, StepRows] = {}
    fields = (question.group_column, question.value_column, question.lengths.column)
    for number, part in enumerate(parts):
        for step in part.steps or ():
            unfinished.setdefault(step, StepRows())
        for batch in read(part, fields, left_out):
            _add(batch, unfinished, question, left_out)
            on_read(batch.size)
        for step in [step for step in unfinished if max(last_part.get(step, -1), last_of_any) <= number]:
            yield unfinished.pop(step).measures(step, question)


def _add(batch: Batch, unfinished: dict[Step, StepRows], question: Question, left_out: LeftOut) -> None:
    lengths = question.lengths.count([row[question.lengths.column] for row in batch.rows])
    for row, number, length in zip(batch.rows, batch.numbers, lengths, strict=True):
        group, value = _text(row[question.group_column]), row[question.value_column]
        if reason := _why_not(row["step"], group, value, length, question):
            left_out.add(reason, batch.path, number)
            continue
        key = verl_keys.parse(group) if question.verl_keys else None
        prompt, session, output = key or (group, None, 0)
        unfinished.setdefault(row["step"], StepRows()).add(prompt, session, output, float(value), length)


def _why_not(step: Step | None, group: str | None, value: Any, length: float | None, question: Question) -> str | None:
    """Why a row is left out; None if it is not."""
    if step is None:
        return "no step"
    if question.verl_keys and group is not None and verl_keys.is_padding(group):
        return "padding row of verl"
    if group is None:
        return f"no {question.group_column}"
    if value is None:
        return f"no {question.value_column}"
    if not isinstance(value, int | float):
        return f"{question.value_column} is no number"
    if not isfinite(value):
        return f"{question.value_column} is not finite"
    if length is None:
        return f"no length in {question.lengths.column}"
    return None


def _text(group: Any) -> str | None:
    """A value of the group column as text: prompts may be lists of messages, ids numbers."""
    return group if group is None or isinstance(group, str) else json.dumps(group, sort_keys=True, default=str)


def _digest(text: str) -> bytes:
    return blake2b(text.encode(errors="surrogatepass"), digest_size=16).digest()


def _tensor(numbers: array) -> Tensor:
    return torch.frombuffer(numbers, dtype=torch.double if numbers.typecode == "d" else torch.long)
