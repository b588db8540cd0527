"""verl's file log of a run that goes on: its history up to the checkpoint, each step once, instead of a wiped file."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from balanced_agg.comparison.file_log import history, read_records
from balanced_agg.replacing import replacing


class ContinuedLog:
    """What is known of the log before the run's first record: the earlier ones that stay."""

    def __init__(self, path: Path, step: int | None, metrics: dict[str, Any]):
        """`step` is that of the checkpoint the run goes on from, 0 where it starts anew, None where that is not known.
        `metrics` are what its checkpoint knows of that step: the run that saved it may not have come to logging them.

        ValueError if `path` is no log of verl's file logger.
        """
        self.path = path
        steps = history(read_records(path)[0])
        if step is not None:
            steps = {earlier: steps[earlier] for earlier in steps if earlier <= step}
            if metrics:
                steps[step] = metrics | steps.get(step, {})
        self.records = list(steps.items())

    def begin_with(self, step: int, metrics: dict[str, Any]) -> None:
        """Replace the log by the earlier records and this one."""
        lines = (
            json.dumps({"step": step, "data": data}, separators=(",", ":")) + "\n"
            for step, data in history([*self.records, (step, metrics)]).items()
        )
        with replacing(self.path) as unfinished:
            unfinished.write_text("".join(lines))


def first_record(log: Callable[..., None], logger: Any, continued: ContinuedLog, args: tuple, kwargs: dict) -> None:
    """verl's ``FileLogger.log`` for the first record of a process."""
    file, logger.fp = logger.fp, io.BytesIO()
    log(*args, **kwargs)  # in verl's own words
    record = json.loads(logger.fp.getvalue())
    file.close()
    continued.begin_with(record["step"], record["data"])
    logger.fp = open(continued.path, "ab", buffering=0)
