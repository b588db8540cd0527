"""One run of a sweep as a process: `balanced-agg train` here, or `balanced-agg submit` for a Ray cluster."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable

from balanced_agg.commands.follow import describe, follow
from balanced_agg.commands.sweep.plan import PlannedRun


def command(run: PlannedRun, ray_address: str | None = None) -> list[str]:
    """What starts the run: on this machine, or on a Ray cluster."""
    how = ["train"] if ray_address is None else ["submit", "--ray-address", ray_address]
    return [sys.executable, "-m", "balanced_agg", *how, *run.arguments]


def execute(run: PlannedRun, ray_address: str | None, say: Callable[[str], None]) -> int:
    """Run it to its end and return its exit status; its output is appended to log.txt in its folder.

    `say` gets a line for each step that is logged. KeyboardInterrupt is raised again once the run has ended, too.
    """
    run.folder.mkdir(parents=True, exist_ok=True)
    run.record(finished=False)
    logged_before = run.metrics.stat().st_size if run.metrics.exists() else 0
    with (run.folder / "log.txt").open("a") as log:
        process = subprocess.Popen(command(run, ray_address), stdout=log, stderr=subprocess.STDOUT)
        try:
            for record in follow(process, run.metrics, logged_before, say):
                say(describe(record["step"], record["data"]))
        except KeyboardInterrupt:
            _let_it_end(process)
            raise
    if process.returncode == 0:
        run.record(finished=True)
    return process.returncode


def _let_it_end(process: subprocess.Popen) -> None:
    """The run has had the Ctrl-C itself, being in the same process group."""
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
