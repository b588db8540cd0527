"""`balanced-agg prepare` as the user sees it. What is written is said in data/prepare.py."""

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from balanced_agg.data.dataset import Row
from balanced_agg.data.prepare import Prepared, prepare
from balanced_agg.data.registry import CHOICES, about, chosen
from balanced_agg.data.sources import HubUnavailable
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

USAGE_ERROR, FAILED = 2, 1
console = Console(stderr=True, soft_wrap=True, highlight=False)  # stdout has results only


def run(
    names: list[str], out: Path, source: Path | None = None, expect: int | None = None, as_json: bool = False
) -> int:
    """Prepare each data set, whatever becomes of the others. 0 if all are in place, else the exit status."""
    try:
        if not names:
            raise ValueError("name a data set")
        datasets = chosen(names)
        if expect is not None and len(datasets) > 1:
            raise ValueError("--expect is a number for one data set")
        readable = [dataset for dataset in datasets if not dataset.generate]
        if source and not readable:
            raise ValueError(f"{', '.join(names)} is generated: leave --source out")
    except ValueError as error:
        console.print(
            f"{error}. There are:", *(f"  {name:<14} {about(name)}" for name in CHOICES), sep="\n", markup=False
        )
        return USAGE_ERROR

    prepared, failed = [], {}
    for dataset in datasets:
        try:
            progress = progress_bar(dataset.name)
            done = prepare(dataset, out, source, expect, only_one=len(readable) == 1, progress=progress)
        except (HubUnavailable, ValueError, OSError, ImportError) as error:
            failed[dataset.name] = str(error)
            console.print(f"[bold red]{dataset.name}[/]: {escape(str(error))}")
            continue
        prepared.append(done)
        for line in remarks(done):
            console.print(f"[bold]{dataset.name}[/]: {escape(line)}")
    if as_json:
        results = [done.manifest | {"path": str(done.path), "wrote": done.wrote} for done in prepared]
        json.dump({"prepared": results, "failed": failed}, sys.stdout, indent=2, ensure_ascii=False)
        print()
    elif prepared:
        print_table(prepared)
    return FAILED if failed else 0


def remarks(done: Prepared) -> Iterator[str]:
    """What the table has no room for: warnings, and why rows were dropped."""
    manifest = done.manifest
    for warning in manifest["warnings"]:
        yield f"WARNING: {warning}"
    if manifest["conflicting_prompts"]:
        yield f"{manifest['conflicting_prompts']} prompts with conflicting answers dropped"
    for reason, entry in manifest["dropped"].items():
        more = ["…"] if entry["rows"] > len(entry["examples"]) else []
        yield f"{entry['rows']} rows dropped, {reason}: {', '.join(entry['examples'] + more)}"


def print_table(prepared: list[Prepared]) -> None:
    """A table on a terminal, tab-separated lines elsewhere."""
    header = ("name", "rows", "dropped", "", "file", "sha256")
    rows = [
        (
            done.manifest["name"],
            str(done.manifest["rows"]),
            str(sum(entry["rows"] for entry in done.manifest["dropped"].values())),
            "wrote" if done.wrote else "up to date",
            str(done.path),
            done.manifest["sha256"][:12],
        )
        for done in prepared
    ]
    output = Console()
    if not output.is_terminal:
        print(*("\t".join(row) for row in (header, *rows)), sep="\n")
        return
    table = Table()
    for title in header:
        table.add_column(title, overflow="fold")
    for row in rows:
        table.add_row(*map(escape, row))
    output.print(table)


def progress_bar(name: str) -> Callable[[Iterable[Row], int | None], Iterator[Row]]:
    def progress(rows: Iterable[Row], total: int | None) -> Iterator[Row]:
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
        with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
            task = bar.add_task(name, total=total)
            for number, row in enumerate(rows, 1):
                if number % 256 == 0:  # an update costs more than a row
                    bar.update(task, completed=number)
                yield row

    return progress
