"""The log of verl's `file` logger: one JSON object a line, {"step": int, "data": {metric: number}}."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from balanced_agg.untrusted import Unreadable, opened, parse_json, shown

Records = list[tuple[int, dict[str, Any]]]  # (step, metrics), in the order they were written

# What is larger is taken for infinity: its square, or the sum of a few, overflows a float.
LARGEST = 1e100


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
    return history((step, numbers(metrics)) for step, metrics in records)


def numbers(metrics: dict[str, Any]) -> dict[str, float]:
    """The metrics that are finite numbers, at most LARGEST, by names that can be printed."""
    return {shown(name): float(value) for name, value in metrics.items() if is_number(value)}


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= LARGEST


def printable(text: Any) -> str:
    """The text with a question mark for each half of a surrogate pair, which JSON may hold and no file can."""
    return str(text).encode(errors="replace").decode()


def read_records(path: Path) -> tuple[Records, int]:
    """The records of a log, and how many lines a killed run left incomplete.

    A run that fails before its first step leaves an empty file, which is a log without steps.

    Raises:
        Unreadable: a line that is JSON but no record of verl's file logger, or a file that cannot be read.
    """
    records, incomplete = [], 0
    with opened(path) as file:
        for number, line in enumerate(file, start=1):
            record = parse(line)
            if is_record(record):
                records.append((record["step"], record["data"]))
            elif record is not None:
                kind = '{"step": int, "data": {…}}'
                raise Unreadable(f"{path}, line {number} is no record of verl's file logger ({kind})")
            elif line.strip():
                incomplete += 1
    return records, incomplete


def parse(line: bytes) -> Any:
    """The JSON in a line; None for what is none, such as the part of a line that a killed run left."""
    try:
        return parse_json(line)
    except ValueError:
        return None


def is_record(record: Any) -> bool:
    if not isinstance(record, dict) or not isinstance(record.get("data"), dict):
        return False
    step = record.get("step")
    return isinstance(step, int) and not isinstance(step, bool) and abs(step) < 2**63
