"""The log of verl's `file` logger: one JSON object a line, {"step": int, "data": {metric: number}}."""

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

Records = list[tuple[int, dict[str, Any]]]  # (step, metrics), in the order they were written


def history(records: Iterable[tuple[int, dict[str, Any]]]) -> dict[int, dict[str, Any]]:
    """Merge (step, metrics) records, in the order they were written, into one set of metrics a step.

    A resumed run continues in the same log, from its last checkpoint, and so repeats steps that an earlier process had
    logged. What counts is the history of the weights that the run ended with:

    - a record of step s supersedes all earlier records of steps > s: the process that logged those is gone;
    - it is merged into an earlier record of the same s, its values winning: verl logs validation and training of a step
      apart, and a resumed run logs a validation alone at the step of its checkpoint.
    """
    steps: dict[int, dict[str, Any]] = {}
    newest = None
    for step, metrics in records:
        if newest is not None and step < newest:
            steps = {earlier: steps[earlier] for earlier in steps if earlier <= step}
        newest = step
        steps.setdefault(step, {}).update(metrics)
    return steps


def merge(records: Iterable[tuple[int, dict[str, Any]]]) -> dict[int, dict[str, float]]:
    """The :func:`history` of the finite numbers. Others (null, NaN, infinity, text, tables) are left out."""
    return history((step, {k: float(v) for k, v in metrics.items() if is_number(v)}) for step, metrics in records)


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def read_records(path: Path) -> tuple[Records, int]:
    """The records of a log, and how many lines a killed run left incomplete.

    A run that fails before its first step leaves an empty file, which is a log without steps.

    Raises:
        ValueError: a line that is JSON but no record of verl's file logger.
    """
    records, incomplete = [], 0
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            record = parse(line)
            if is_record(record):
                records.append((record["step"], record["data"]))
            elif record is not None:
                raise ValueError(
                    f'{path}, line {number} is no record of verl\'s file logger ({{"step": int, "data": {{…}}}})'
                )
            elif line.strip():
                incomplete += 1
    return records, incomplete


def parse(line: bytes) -> Any:
    """The JSON in a line; None for what is none, such as the part of a line that a killed run left."""
    try:
        return json.loads(line)
    except ValueError:  # of JSON, or of UTF-8
        return None


def is_record(record: Any) -> bool:
    return isinstance(record, dict) and isinstance(record.get("step"), int) and isinstance(record.get("data"), dict)
