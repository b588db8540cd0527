"""One run of a sweep as a process: scripts/train.sh here, or the same as a job of a Ray cluster."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from balanced_agg.runs.follow import describe, follow
from balanced_agg.sweeps.plan import PlannedRun


def command(run: PlannedRun, checkout: Path, ray_address: str | None = None, attempt: str = "") -> list[str]:
    """What starts the run. A Ray job needs the checkout and the run's folder at the same path on the cluster."""
    train = ["bash", str(checkout / "scripts/train.sh"), *run.arguments]
    if ray_address is None:
        return train
    submit = [sys.executable, "-m", "ray.scripts.scripts", "job", "submit", "--address", ray_address]
    return [*submit, "--submission-id", job_id(run, attempt), "--", *train]


def job_id(run: PlannedRun, attempt: str) -> str:
    """Ray takes each id once, so a run that is tried again needs another `attempt`."""
    return f"{run.folder.name}-{attempt}"


def execute(run: PlannedRun, checkout: Path, ray_address: str | None, attempt: str, say: Callable[[str], None]) -> int:
    """Run it to its end and return its exit status; its output is appended to log.txt in its folder.

    `say` gets a line for each step that is logged. KeyboardInterrupt is raised again once the run has ended, too.
    """
    run.folder.mkdir(parents=True, exist_ok=True)
    run.record(finished=False)
    logged_before = run.metrics.stat().st_size if run.metrics.exists() else 0
    with (run.folder / "log.txt").open("a") as log:
        process = subprocess.Popen(
            command(run, checkout, ray_address, attempt), stdout=log, stderr=subprocess.STDOUT, cwd=checkout
        )
        try:
            for record in follow(process, run.metrics, logged_before, say):
                say(describe(record["step"], record["data"]))
        except KeyboardInterrupt:
            _end(process, run, ray_address, attempt)
            raise
    if process.returncode == 0:
        run.record(finished=True)
    return process.returncode


def _end(process: subprocess.Popen, run: PlannedRun, ray_address: str | None, attempt: str) -> None:
    """A local run has had the Ctrl-C itself; a job has to be told."""
    if ray_address is not None:
        stop = [sys.executable, "-m", "ray.scripts.scripts", "job", "stop", "--address", ray_address]
        subprocess.run([*stop, job_id(run, attempt)], stdout=subprocess.DEVNULL)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        process.wait()
    finally:
        signal.signal(signal.SIGINT, before)


def last_lines(run: PlannedRun, count: int = 8) -> str:
    """The end of the run's log."""
    with (run.folder / "log.txt").open("rb") as log:
        log.seek(-min(log.seek(0, os.SEEK_END), 20_000), os.SEEK_END)
        return "\n".join(log.read().decode(errors="replace").splitlines()[-count:])
