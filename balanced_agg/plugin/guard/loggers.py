"""verl's loggers: a file log with each step once, whatever the run resumes from, and a wandb that cannot be reached."""

import io
import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from contextvars import ContextVar
from pathlib import Path
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from balanced_agg.atomic_write import atomic_write
from balanced_agg.plugin import logger
from balanced_agg.plugin.guard import checkpoints
from balanced_agg.runs.file_log import history, read_records


class ResumedFrom(NamedTuple):
    """The checkpoint that a run has resumed from.

    Attributes:
    step: its step; 0 for a run from scratch, None where it is not known.
    metrics: of that step.
    continues: whether it is the run's last, so that the steps behind it are only trained again.
    """

    step: int | None
    metrics: dict[str, Any]
    continues: bool


NOT_KNOWN = ResumedFrom(None, {}, True)
_resumed_from: ContextVar[ResumedFrom] = ContextVar("balanced_agg_resumed_from", default=NOT_KNOWN)
_logs: WeakKeyDictionary = WeakKeyDictionary()  # FileLogger -> the steps in its file, until its first record


def note_resumed_step(wrapped: Callable, trainer: Any, args: tuple, kwargs: dict) -> None:
    """verl loads the checkpoint here and tells nobody which: keep its step and metrics for the log.

    verl takes all behind ``global_step_`` for the number: a slash at the end of ``resume_from_path`` is dropped.
    """
    config = trainer.config.trainer
    if config.resume_from_path:
        config.resume_from_path = config.resume_from_path.rstrip("/")
    wrapped(*args, **kwargs)
    folder = Path(config.default_local_dir, f"global_step_{trainer.global_steps}")
    if config.resume_mode == "resume_path":
        folder = Path(config.resume_from_path)
    continues = config.resume_mode == "auto" and trainer.global_steps > 0
    _resumed_from.set(ResumedFrom(trainer.global_steps, checkpoints.metrics(folder), continues))


def keep_log(wrapped: Callable, instance: Any, args: tuple, kwargs: dict) -> None:
    """verl empties the file of its file logger at every start: truncate it to the step that the run resumes from.

    Of a run from scratch, or from a checkpoint of the user's choice, the log of the run that was there before is kept
    under another name. ValueError if the file is no log of verl's file logger.
    """
    tracking = sys.modules["verl.utils.tracking"]
    # The path is known to verl's __init__ alone, which opens it by name: for that call, the name is ours. It keeps the
    # file open.
    tracking.open = lambda path, mode, **options: Path(path).open(mode.replace("wb", "ab"), **options)  # noqa: SIM115
    try:
        wrapped(*args, **kwargs)
    finally:
        del tracking.open
    path = Path(instance.filepath)
    step, metrics, continues = _resumed_from.get()
    if path.is_file() and (path.stat().st_size or metrics):
        steps = history(read_records(path)[0])
        if step is not None:
            if not continues and max(steps, default=0) > step:
                written = time.localtime(path.stat().st_mtime)
                kept = path.with_name(time.strftime(f"{path.stem}-%Y%m%d-%H%M%S{path.suffix}", written))
                shutil.copy2(path, kept)
                logger.warning("the log of the run that was there before is kept as %s", kept)
            steps = {earlier: steps[earlier] for earlier in steps if earlier <= step}
            if metrics:  # the process that saved them may not have logged them
                steps[step] = metrics | steps.get(step, {})
        _logs[instance] = steps
        _rewrite(instance, steps)


def merge_first_record(wrapped: Callable, instance: Any, args: tuple, kwargs: dict) -> None:
    """verl appends a record; a resumed run's first may be a validation of the checkpoint's step: merge the two."""
    steps = _logs.pop(instance, None)
    if steps is None:
        return wrapped(*args, **kwargs)
    file, instance.fp = instance.fp, io.BytesIO()
    wrapped(*args, **kwargs)  # the record as verl formats it
    record, instance.fp = json.loads(instance.fp.getvalue()), file
    _rewrite(instance, history([*steps.items(), (record["step"], record["data"])]))


def _rewrite(file_logger: Any, steps: dict[int, dict[str, Any]]) -> None:
    """Replace what verl's file logger has written by these steps, and let it append to them."""
    path = Path(file_logger.filepath)
    with atomic_write(path) as temporary, temporary.open("w") as file:
        for step, data in steps.items():
            file.write(json.dumps({"step": step, "data": data}, separators=(",", ":")) + "\n")
    file_logger.fp.close()
    file_logger.fp = path.open("ab", buffering=0)


def log_offline_if_unreachable(wrapped: Callable, tracking: Any, args: tuple, kwargs: dict) -> None:
    """verl starts wandb here, before any other logger, and ends where its server cannot be reached: go on offline.

    wandb gives up after WANDB_INIT_TIMEOUT seconds (90 by default) and some more. What it refuses for another reason,
    such as a key that is wrong, stops the run as before. A connection that is lost later is wandb's own affair: it
    keeps what it could not send on disk.
    """
    try:
        wrapped(*args, **kwargs)
    except Exception as error:
        if type(error).__name__ != "CommError" or not str(error).startswith("Timed out"):
            raise
        import wandb

        logger.warning(
            "wandb cannot be reached, so this run is offline; `wandb sync %s` sends it later: %s",
            Path(os.environ.get("WANDB_DIR", "."), "wandb", "offline-run-*"),
            str(error).splitlines()[0],
        )
        wandb.teardown()  # it would not read the mode again
        os.environ["WANDB_MODE"] = "offline"
        wrapped(*args, **kwargs)
