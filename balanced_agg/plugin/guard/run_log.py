"""verl's file log of a resumed run: its history up to the checkpoint, each step once, instead of an emptied file."""

import json
from pathlib import Path
from typing import Any

from balanced_agg.atomic_write import atomic_write
from balanced_agg.runs.file_log import history, read_records

Steps = dict[int, dict[str, Any]]


def truncate(path: Path, step: int | None, metrics: dict[str, Any]) -> Steps:
    """Drop the steps after the checkpoint from the log, and return what stays.

    Args:
        step: of the checkpoint that the run resumes from; 0 where it starts anew, None where that is not known.
        metrics: what the checkpoint knows of its step. The process that saved it may not have logged them.

    ValueError if `path` is no log of verl's file logger.
    """
    steps = history(read_records(path)[0])
    if step is not None:
        steps = {earlier: steps[earlier] for earlier in steps if earlier <= step}
        if metrics:
            steps[step] = metrics | steps.get(step, {})
    write(path, steps)
    return steps


def with_first_record(steps: Steps, step: int, metrics: dict[str, Any]) -> Steps:
    """The log after the run's first record, which may be of a step that is in it: the validation of the checkpoint."""
    return history([*steps.items(), (step, metrics)])


def write(path: Path, steps: Steps) -> None:
    with atomic_write(path) as temporary, temporary.open("w") as file:
        for step, data in steps.items():
            file.write(json.dumps({"step": step, "data": data}, separators=(",", ":")) + "\n")
