"""Train a recipe under several aggregation rules and seeds, one run after the other, and compare them."""

import argparse
import shlex
import sys
import time
from pathlib import Path

import balanced_agg
from balanced_agg.commands.sweep.execute import command, execute, last_lines
from balanced_agg.commands.sweep.plan import PlannedRun, plan_runs
from balanced_agg.commands.terminal import messages, print_table

CHECKOUT = Path(balanced_agg.__file__).parent.parent
FAILED = "failed"
EPILOG = (
    "Runs that have finished are skipped, those that were cut short go on from their last checkpoint, and a run that "
    "fails does not keep the others from running. The end is `balanced-agg compare` over all runs that logged anything."
)


def main(arguments: list[str], checkout: Path = CHECKOUT) -> int:
    # Overrides may stand anywhere, also behind --seeds, which would swallow them.
    overrides = [argument for argument in arguments if "=" in argument and not argument.startswith("--")]
    parser = argparse.ArgumentParser(
        prog="scripts/sweep.sh",
        usage="%(prog)s RECIPE --modes MODE… --seeds SEED… [options] [Hydra overrides…]",
        description=__doc__,
        epilog=EPILOG,
        allow_abbrev=False,
    )
    parser.add_argument("recipe", metavar="RECIPE", help="a file of recipes/")
    parser.add_argument("--modes", nargs="+", required=True, metavar="MODE", help="files of configs/aggregation/")
    parser.add_argument("--seeds", nargs="+", required=True, metavar="SEED", type=int)
    parser.add_argument("--dir", type=Path, default=checkout / "outputs", help="folder for the runs (default: outputs)")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="folder for the report (default: DIR/RECIPE-comparison)"
    )
    parser.add_argument("--ray-address", metavar="URL", help="submit each run as a job to this Ray cluster's dashboard")
    parser.add_argument("--dry-run", action="store_true", help="print what would be run, and start nothing")
    parser.add_argument("--json", action="store_true", help="print the comparison as JSON, all else on stderr")
    options = parser.parse_args([argument for argument in arguments if argument not in overrides])
    folder = options.dir.resolve()
    try:
        runs = plan_runs(checkout, options.recipe, options.modes, options.seeds, overrides, folder)
    except ValueError as error:
        parser.error(str(error))

    if options.dry_run:
        for run in runs:
            print(
                f"# {run.folder.name}: {run.state}",
                shlex.join(command(run, checkout, options.ray_address)),
                sep="\n",
            )
        return 0
    outcomes = run_all(runs, checkout, options.ray_address)
    if not options.json:
        print_table(("run", "outcome", "exit code", "seconds"), outcomes, text_columns=2)
    compared = compare(runs, options.out or folder / f"{options.recipe}-comparison", options.json)
    return 1 if any(outcome == FAILED for _, outcome, *_ in outcomes) else compared


def run_all(runs: list[PlannedRun], checkout: Path, ray_address: str | None) -> list[tuple[str, ...]]:
    """Run what has not finished; of each run its name, what became of it, exit code and seconds."""
    outcomes = []
    for number, run in enumerate(runs, 1):
        name, before = run.folder.name, run.state
        head = f"[{number}/{len(runs)}] {name}"
        if before == "finished":
            say(f"{head}: finished before")
            outcomes.append((name, "finished before", "", ""))
            continue
        say(f"{head}: {'goes on' if before == 'started' else 'starts'}, log in {run.folder}/log.txt")
        start = time.monotonic()
        status = execute(run, checkout, ray_address, say=lambda line: say(f"  {line}"))
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


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit("sweep: interrupted; the same command goes on from here")
