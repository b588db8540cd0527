"""`balanced-agg follow`: a training command's output goes to a log; the terminal shows a line a step and a summary.

The command writes ``metrics.jsonl`` (verl's ``file`` logger) into the run folder. ``log.txt`` beside it is appended to,
and nothing that an earlier run has left in either is deleted here.
"""

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

from balanced_agg.commands.terminal import errors_in_one_line, messages
from balanced_agg.runs import file_log
from balanced_agg.untrusted import shown

POLL_SECONDS = 0.5
REASSURE_SECONDS = 30  # how long start-up may stay silent
LOG_END_BYTES = 2**16  # in which the last lines are looked for
COLOUR = re.compile(r"\x1b\[[\d;]*m")
# Metric -> how a step's line has it.
SHOWN = {
    "critic/score/mean": "reward {:.2f}",
    "response_length/mean": "response {:.0f} tokens",
    "timing_s/step": "{:.1f} s",
}


class Ended(NamedTuple):
    """A command that has ended: exit status, the metrics of each step it logged, and whether Ctrl-C or SIGTERM came."""

    status: int
    steps: dict[int, dict[str, float]]
    interrupted: bool


def run(run_dir: Path, command: list[str]) -> int:
    """Run the command and follow it; its exit code."""
    start, log = time.monotonic(), run_dir / "log.txt"
    with errors_in_one_line("follow", OSError):
        ended = execute(command, run_dir, say=partial(print, flush=True))
    if ended.status:
        messages.print(
            f"\nthe run ended with exit code {ended.status}; the end of {log}:", last_lines(log, 15), sep="\n"
        )
        return ended.status
    accuracies = [found for metrics in ended.steps.values() if (found := accuracy(metrics)) is not None]
    if accuracies:
        first, last = accuracies[0], accuracies[-1]
        print(
            f"\nvalidation accuracy {first:.1%} -> {last:.1%} ({100 * (last - first):+.1f} points)\n"
            f"{max(ended.steps)} steps in {time.monotonic() - start:.0f} s, start-up included\n"
            f"log {log}, metrics {run_dir / 'metrics.jsonl'}"
        )
    return 0


@contextmanager
def started(command: Sequence[str], **options: Any) -> Iterator[tuple[subprocess.Popen, list[int]]]:
    """Start a training command, which is to be waited for; the process, and the signals that have come meanwhile.

    Ctrl-C reaches the process, being in the same process group, and is left to it. SIGTERM, which kill, a container or
    a scheduler sends to this process alone, is passed on to it once: Ray tidies up at the first.
    """
    came: list[int] = []
    process = None

    def note(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGTERM and number not in came and process is not None:
            process.terminate()
        came.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        process = subprocess.Popen(command, **options)
        if signal.SIGTERM in came:
            process.terminate()
        yield process, came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def execute(command: Sequence[str], folder: Path, say: Callable[[str], None]) -> Ended:
    """Run a training command to its end, its output appended to log.txt in `folder`.

    `say` gets a line for each step that is logged, and a sign of life while none is. Signals: see :func:`started`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tail = Tail(folder / "metrics.jsonl")
    start = silent_since = time.monotonic()
    steps: dict[int, dict[str, float]] = {}
    with (
        (folder / "log.txt").open("a") as log,
        started(command, stdout=log, stderr=subprocess.STDOUT) as (process, signals),
    ):
        while process.returncode is None:
            with suppress(subprocess.TimeoutExpired):
                process.wait(POLL_SECONDS)
            for step, metrics in tail.new():
                steps[step] = file_log.numbers(metrics)
                say(describe(step, steps[step]))
                silent_since = time.monotonic()
            if time.monotonic() - silent_since > REASSURE_SECONDS:
                silent_since = time.monotonic()
                say(f"… {silent_since - start:.0f} s")
    return Ended(process.returncode, steps, bool(signals))


class Tail:
    """What is logged to a file after this object was made.

    A run that resumes replaces its log by the part up to its checkpoint, and verl alone empties it: it is then read
    again from its start, without the steps that are known as they are.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.position, self.inode = path, 0, None
        self.known: dict[int, dict[str, Any]] = {}
        self.new()

    def new(self) -> list[tuple[int, dict[str, Any]]]:
        """The (step, metrics) records in complete lines that have come since the last call; what is none is skipped."""
        if not self.path.is_file():
            return []
        with self.path.open("rb") as file:
            status = os.fstat(file.fileno())
            if status.st_ino != self.inode or status.st_size < self.position:
                self.inode, self.position = status.st_ino, 0
            file.seek(self.position)
            complete, newline, _ = file.read().rpartition(b"\n")
        self.position += len(complete) + len(newline)
        parsed = filter(file_log.is_record, map(file_log.parse, complete.splitlines()))
        records = [(record["step"], record["data"]) for record in parsed]
        new = [(step, metrics) for step, metrics in records if self.known.get(step) != metrics]
        self.known = file_log.history([*self.known.items(), *new])
        return new


def accuracy(metrics: dict[str, float]) -> float | None:
    """Validation accuracy among a step's metrics, averaged over sources: verl's ``val-core/SOURCE/acc/mean@K``.

    Of a source whose reward function gives no acc, it is verl's ``val-core/SOURCE/reward/mean@K``.
    """
    values = [v for k, v in metrics.items() if k.startswith("val-core/") and re.search("/(acc|reward)/mean@", k)]
    return sum(values) / len(values) if values else None


def describe(step: int, metrics: dict[str, float]) -> str:
    """One line on a step; what was not logged is left out."""
    parts = [f"step {step:3d}", *(text.format(metrics[name]) for name, text in SHOWN.items() if name in metrics)]
    if (found := accuracy(metrics)) is not None:
        parts.append(f"validation accuracy {found:.1%}")
    return "  ".join(parts)


def last_lines(log: Path, count: int) -> str:
    """The end of a log without its colours. It may hold what a model wrote, which is shown as text."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - LOG_END_BYTES))
        text = COLOUR.sub("", file.read().decode(errors="replace"))
    return "\n".join(shown(line, keep="\t") for line in text.splitlines()[-count:])
