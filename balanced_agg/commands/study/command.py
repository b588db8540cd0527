"""`balanced-agg study`: run what a plan asks for, in its order, keep the record, and write the report."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from shlex import join
from typing import Any

from balanced_agg.commands.recipes import CONFIGS, root
from balanced_agg.commands.study.record import Key, Record, StudyRun, read_record, write_record
from balanced_agg.commands.sweep import FAILED, PlannedRun, command, plan_runs, run_all
from balanced_agg.commands.terminal import errors_in_one_line, messages, print_table
from balanced_agg.runs.run import read_path
from balanced_agg.untrusted import Unreadable, read_yaml

PLANS = CONFIGS / "study"
ENTRY = {"stage": str, "order": int, "recipe": str, "aggregations": list, "seeds": list, "overrides": list}


@dataclass(frozen=True)
class Cell:
    """A run of a study: the entry of the plan that asks for it, its aggregation as there, its seed."""

    entry: dict[str, Any]
    rule: str
    seed: int
    planned: PlannedRun

    @property
    def key(self) -> Key:
        return self.entry["stage"], self.rule, self.seed


def run(
    plan: str, orders: Sequence[int], folder: Path | None, out: Path | None, dry_run: bool, report_only: bool
) -> int:
    """The exit code: 0 if every run of the orders has finished, 2 for what is no plan.

    A run that the record has as finished is not run again where its folder is gone, as on another machine. What has
    been logged is recorded and reported also after a failure or Ctrl-C.
    """
    folder = (folder or root() / "outputs/study").resolve()
    out = out or root() / "docs/study"
    with errors_in_one_line("study", OSError):
        entries = read_plan(plan)
        cells = plan_cells(entries, folder)
        if unknown := {*orders} - {entry["order"] for entry in entries}:
            raise ValueError(f"--orders {' '.join(map(str, unknown))}: {plan} has no such order")
        recorded = finished_before(cells, read_record(out), out)
    chosen = [cell for cell in cells if not orders or cell.entry["order"] in orders]
    if dry_run:
        for cell in chosen:
            state = "finished" if cell.key in recorded else cell.planned.state
            print(f"# {cell.planned.folder}: {state}", join(command(cell.planned, None)), sep="\n")
        return 0
    # What the report needs, found missing before hours of runs and not behind them.
    import matplotlib.figure  # noqa: F401
    import scipy.stats  # noqa: F401

    outcomes = []
    if not report_only:
        left = [cell.planned for cell in chosen if cell.key not in recorded]
        if len(left) < len(chosen):
            messages.print(f"study: {len(chosen) - len(left)} of {len(chosen)} runs are finished in the record {out}")
        try:
            outcomes = run_all(left, None)
        except KeyboardInterrupt:
            messages.print("study: interrupted; the same command resumes it")
    from balanced_agg.commands.study.report import write_report

    with errors_in_one_line("study", OSError):
        write_record(Record(entries, read_record(out).runs).merged(collect(cells)), out)
        record = read_record(out)  # in the precision that it is kept in
        written = write_report(record, out)
    if outcomes:
        print_table(("run", "outcome", "exit code", "seconds"), outcomes, text_columns=2)
    messages.print(f"written: {', '.join(str(out / name) for name in written)}")
    complete = all(cell.key in record.runs and record.runs[cell.key].finished for cell in chosen)
    return 0 if complete and not any(outcome == FAILED for _, outcome, *_ in outcomes) else 1


def read_plan(name: str) -> list[dict[str, Any]]:
    """The entries of a plan: a file, or a name in configs/study. ValueError for anything else, naming the key."""
    file = Path(name) if Path(name).is_file() else PLANS / f"{name}.yaml"
    if not file.is_file():
        raise ValueError(
            f"{name} is no plan; give a file, or one of {', '.join(sorted(p.stem for p in PLANS.iterdir()))}"
        )
    entries = read_yaml(file)
    if not isinstance(entries, list) or not entries:
        raise ValueError(f"{file} holds no list of stages")
    for number, entry in enumerate(entries, 1):
        if not isinstance(entry, dict) or entry.keys() != ENTRY.keys():
            raise ValueError(f"{file}, entry {number}: it must have the keys {', '.join(ENTRY)}, and no others")
        for key, kind in ENTRY.items():
            items = {"aggregations": str, "seeds": int, "overrides": str}.get(key)
            if type(entry[key]) is not kind or (items and any(type(item) is not items for item in entry[key])):
                raise ValueError(
                    f"{file}, entry {number}: {key}={entry[key]!r} is no {items or kind} {'s' if items else ''}"
                )
        if not entry["aggregations"] or not entry["seeds"]:
            raise ValueError(f"{file}, entry {number}: name one of aggregations and seeds at least")
        if Path(entry["stage"]).name != entry["stage"]:
            raise ValueError(f"{file}, entry {number}: stage={entry['stage']!r} must be the name of a folder")
    return entries


def plan_cells(entries: Sequence[dict[str, Any]], folder: Path) -> list[Cell]:
    """The runs of a plan, in order: orders from the lowest, in each of them seeds in the outer loop, then stages, and
    rules in the inner loop, so that what is interrupted has complete pairs.

    ValueError: as :func:`sweep.plan_runs` has it, or a run that two entries ask for.
    """
    placed = []
    for entry in entries:
        rules, seeds = entry["aggregations"], entry["seeds"]
        runs = plan_runs(entry["recipe"], rules, seeds, entry["overrides"], folder / entry["stage"])
        asked = product(enumerate(seeds), rules)  # as plan_runs has them
        placed += [
            ((entry["order"], place), Cell(entry, rule, seed, run))
            for ((place, seed), rule), run in zip(asked, runs, strict=True)
        ]
    cells = [cell for _, cell in sorted(placed, key=lambda item: item[0])]
    folders = [cell.planned.folder for cell in cells]
    if twice := {cell.key for cell in cells if folders.count(cell.planned.folder) > 1}:
        raise ValueError(f"two entries of the plan ask for {' and '.join(map(str, sorted(twice)))}")
    return cells


def finished_before(cells: Sequence[Cell], record: Record, out: Path) -> set[Key]:
    """Those of the cells that the record has as finished.

    ValueError: one of them was run with other overrides than the plan has now.
    """
    runs = {cell.key: record.runs[cell.key] for cell in cells if cell.key in record.runs}
    for cell in cells:
        run = runs.get(cell.key)
        if run and run.overrides != cell.planned.overrides:
            raise ValueError(
                f"{out} holds {' '.join(map(str, cell.key))} with the overrides {' '.join(run.overrides) or '(none)'}, "
                f"not {' '.join(cell.planned.overrides) or '(none)'}; give the stage another name, or --out another "
                "folder"
            )
    return {key for key, run in runs.items() if run.finished}


def collect(cells: Sequence[Cell]) -> dict[Key, StudyRun]:
    """What has been logged so far, by stage, rule and seed; a log that cannot be read is told and left out."""
    found = {}
    for cell in cells:
        planned = cell.planned
        if not planned.metrics.exists() or not planned.metrics.stat().st_size:
            continue
        try:
            (logged,) = read_path(str(planned.folder), [])
        except Unreadable as error:
            messages.print(f"study: left out: {error}")
            continue
        told = planned.read_record()
        found[cell.key] = StudyRun.of(
            *cell.key,
            order=cell.entry["order"],
            # Without the folder, which is a path of this machine.
            command=join(["balanced-agg", "train", *(a for a in planned.arguments if not a.startswith("run.dir="))]),
            overrides=planned.overrides,
            commit=logged.commit,
            seconds=told.get("seconds"),
            finished=bool(told.get("finished")),
            logged=logged,
        )
    return found
