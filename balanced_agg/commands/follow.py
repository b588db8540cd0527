"""`balanced-agg follow`: a training command's output goes to a log; the terminal shows a line a step and a summary.

The command writes ``metrics.jsonl`` (verl's ``file`` logger) into the run folder, where ``log.txt`` is written too.
"""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from balanced_agg.runs import file_log

POLL_SECONDS = 0.5
REASSURE_SECONDS = 30  # how long start-up may stay silent


def accuracy(metrics: dict[str, float]) -> float | None:
    """Validation accuracy among a step's metrics (verl's ``val-core/SOURCE/acc/mean@K``, averaged over sources)."""
    values = [v for k, v in metrics.items() if k.startswith("val-core/") and "/acc/mean@" in k]
    return sum(values) / len(values) if values else None


def describe(step: int, metrics: dict[str, float]) -> str:
    """One line on a step; what was not logged is left out."""
    parts = [f"step {step:3d}"]
    if "critic/score/mean" in metrics:
        parts.append(f"reward {metrics['critic/score/mean']:.2f}")
        parts.append(f"response {metrics['response_length/mean']:.0f} tokens")
        parts.append(f"{metrics['timing_s/step']:.1f} s")
    if accuracy(metrics) is not None:
        parts.append(f"validation accuracy {accuracy(metrics):.1%}")
    return "  ".join(parts)


def read_records(path: Path, position: int) -> tuple[list[dict], int]:
    """Records of complete lines behind a byte position, and the position behind them; none while there is no file.

    What is no record is skipped: a log that was replaced since the position was taken is read again from its start.
    """
    if not path.exists():
        return [], position
    with path.open("rb") as file:
        file.seek(position)
        complete, newline, _ = file.read().rpartition(b"\n")
    records = [record for record in map(_parsed, complete.splitlines()) if file_log.is_record(record)]
    return records, position + len(complete) + len(newline)


def _parsed(line: bytes) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return None


def inode(path: Path) -> int | None:
    return path.stat().st_ino if path.exists() else None


def say_now(line: str) -> None:
    print(line, flush=True)


def follow(
    process: subprocess.Popen,
    metrics_path: Path,
    position: int = 0,
    say: Callable[[str], None] = say_now,
) -> Iterator[dict]:
    """Yield each step logged behind a byte position until the process has ended; `say` so while nothing is logged.

    A run that resumes replaces its log by the part up to its checkpoint; those steps are not yielded again.
    """
    start = silent_since = time.monotonic()
    log = inode(metrics_path)
    seen = file_log.history(file_log.read_records(metrics_path)[0]) if position else {}
    while True:
        ended = process.poll() is not None
        if log != (log_now := inode(metrics_path)):
            log, position = log_now, 0 if log else position
        records, position = read_records(metrics_path, position)
        records = [record for record in records if seen.get(record["step"]) != record["data"]]
        seen |= {record["step"]: record["data"] for record in records}
        yield from records
        if ended:
            return
        if records:
            silent_since = time.monotonic()
        elif time.monotonic() - silent_since > REASSURE_SECONDS:
            silent_since = time.monotonic()
            say(f"… {silent_since - start:.0f} s")
        time.sleep(POLL_SECONDS)


def summarize(accuracies: dict[int, float], steps: int, seconds: float, log: Path) -> str:
    first, last = (accuracies[step] for step in (min(accuracies), max(accuracies)))
    return (
        f"\nvalidation accuracy {first:.1%} -> {last:.1%} ({100 * (last - first):+.1f} points)\n"
        f"{steps} steps in {seconds:.0f} s, start-up included\n"
        f"log {log}, metrics {log.with_name('metrics.jsonl')}"
    )


def run(run_dir: Path, command: list[str], then: str = "") -> int:
    """Run the command and follow it; its exit code. Print `then` in the end if that is 0."""
    run_dir.mkdir(parents=True, exist_ok=True)
    metrics_path = run_dir / "metrics.jsonl"
    metrics_path.unlink(missing_ok=True)  # an earlier run's steps are not this run's
    log = run_dir / "log.txt"

    start, steps = time.monotonic(), 0
    accuracies: dict[int, float] = {}
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        # Ctrl-C reaches the command too, being in the same process group; let it end in its own way.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        for record in follow(process, metrics_path):
            say_now(describe(record["step"], record["data"]))
            steps = record["step"]
            if accuracy(record["data"]) is not None:
                accuracies[steps] = accuracy(record["data"])
    if process.returncode:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
        print(f"\nthe run ended with exit code {process.returncode}; the end of {log}:\n{tail}", file=sys.stderr)
        return process.returncode
    if accuracies:
        print(summarize(accuracies, steps, time.monotonic() - start, log))
    if then:
        print(f"\n{then}")
    return 0
