"""`balanced-agg sweep`: train a recipe under several aggregations and seeds, run after run, and compare the runs."""

import shlex
import time
from collections.abc import Sequence
from pathlib import Path

from balanced_agg.commands.recipes import root
from balanced_agg.commands.sweep.execute import command, execute, last_lines
from balanced_agg.commands.sweep.plan import PlannedRun, plan_runs
from balanced_agg.commands.terminal import messages, print_table

FAILED = "failed"


def run(
    recipe: str,
    aggregations: Sequence[str],
    seeds: Sequence[int],
    overrides: Sequence[str] = (),
    folder: Path | None = None,
    out: Path | None = None,
    ray_address: str | None = None,
    dry_run: bool = False,
    as_json: bool = False,
) -> int:
    """The exit code: 0 if all runs have finished and are compared, 2 for what cannot be a sweep."""
    folder = (folder or root() / "outputs").resolve()
    try:
        runs = plan_runs(recipe, aggregations, seeds, overrides, folder)
    except ValueError as error:
        say(f"balanced-agg sweep: {error}")
        return 2
    if dry_run:
        for planned in runs:
            print(f"# {planned.folder.name}: {planned.state}", shlex.join(command(planned, ray_address)), sep="\n")
        return 0
    try:
        outcomes = run_all(runs, ray_address)
    except KeyboardInterrupt:
        say("sweep: interrupted; the same command resumes it")
        return 1
    if not as_json:
        print_table(("run", "outcome", "exit code", "seconds"), outcomes, text_columns=2)
    compared = compare(runs, out or folder / f"{recipe}-comparison", as_json)
    return 1 if any(outcome == FAILED for _, outcome, *_ in outcomes) else compared


def run_all(runs: list[PlannedRun], ray_address: str | None) -> list[tuple[str, ...]]:
    """Run what has not finished; of each run its name, its outcome, exit code and seconds."""
    outcomes = []
    for number, run in enumerate(runs, 1):
        name, before = run.folder.name, run.state
        head = f"[{number}/{len(runs)}] {name}"
        if before == "finished":
            say(f"{head}: finished before")
            outcomes.append((name, "finished before", "", ""))
            continue
        say(f"{head}: {'resumes' if before == 'started' else 'starts'}, log in {run.folder}/log.txt")
        start = time.monotonic()
        status = execute(run, ray_address, say=lambda line: say(f"  {line}"))
        seconds = f"{time.monotonic() - start:.0f}"
        outcomes.append((name, FAILED if status else "finished", str(status), seconds))
        if status:
            say(f"{head}: failed with exit code {status}; the end of its log:\n{last_lines(run)}")
    return outcomes


def say(line: str) -> None:
    messages.print(line, markup=False)


def compare(runs: list[PlannedRun], out: Path, as_json: bool) -> int:
    from balanced_agg.commands.compare.command import run as run_compare

    logged = [str(run.folder) for run in runs if run.metrics.exists() and run.metrics.stat().st_size]
    if not logged:
        say("no run has logged anything to compare")
        return 1
    return run_compare(logged, out, as_json)
