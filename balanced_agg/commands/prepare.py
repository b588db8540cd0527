"""`balanced-agg prepare` as the user sees it. data/prepare.py says what is written."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn

from balanced_agg.arithmetic.tasks import TASKS
from balanced_agg.commands.recipes import root
from balanced_agg.commands.terminal import messages, print_json, print_table, progress
from balanced_agg.data.dataset import Row
from balanced_agg.data.embedded import prepare_task
from balanced_agg.data.prepare import Prepared, named, prepare
from balanced_agg.data.registry import CHOICES, about, chosen
from balanced_agg.data.smollm2_135m import write_model
from balanced_agg.data.sources import HubUnavailable
from balanced_agg.untrusted import shown

USAGE_ERROR, FAILED = 2, 1
# What recipes need besides data sets, each prepared by itself.
OTHERS = {
    "arithmetic": "the arithmetic task and its warm-started model",
    "search": "the task of signs between digits and its warm-started model",
    "smollm2_135m": "SmolLM2-135M-Instruct as a model directory",
}
HEADER = ("name", "", "file", "sha256", "rows", "dropped")


def run(
    names: list[str],
    out: Path | None,
    source: list[Path],
    expect: int | None,
    regime: str | None,
    seed: int | None,
    as_json: bool,
) -> int:
    """Prepare each data set, also if another fails. 0 if all are in place, else the exit status."""
    try:
        jobs = plan(names, out, source, expect, regime, seed)
    except ValueError as error:
        known = OTHERS | {name: about(name) for name in CHOICES}
        lines = (f"  {name:<14} {meaning}" for name, meaning in known.items())
        messages.print(f"{error}. There are:", *lines, sep="\n")
        return USAGE_ERROR

    prepared, failed = [], {}
    for name, job in jobs.items():
        try:
            for done in job():
                prepared.append(done)
                for line in remarks(done):
                    messages.print(f"[bold]{name}[/]: {escape(shown(line))}", markup=True)
        except (HubUnavailable, ValueError, OSError, ImportError) as error:
            failed[name] = (
                str(error) if isinstance(error, HubUnavailable) else shown(error)
            )  # says what to do, in lines
            messages.print(f"[bold red]{name}[/]: {escape(failed[name])}", markup=True)
    if as_json:
        results = [done.manifest | {"path": str(done.path), "wrote": done.wrote} for done in prepared]
        print_json({"prepared": results, "failed": failed})
    elif prepared:
        print_table(HEADER, map(row, prepared), text_columns=4)
    return FAILED if failed else 0


def plan(
    names: list[str], out: Path | None, source: list[Path], expect: int | None, regime: str | None, seed: int | None
) -> dict[str, Callable[[], Iterable[Prepared]]]:
    """What there is to prepare, by name. ValueError for an unknown name, and for an option that does not fit."""
    if not names:
        raise ValueError("name a data set")
    artifacts = root() / "artifacts"
    if names[0] in OTHERS:
        if len(names) > 1 or source or expect is not None:
            raise ValueError(f"{names[0]} is prepared by itself, without --source and --expect")
        if names == ["smollm2_135m"]:
            folder = out or artifacts / "models/smollm2_135m"
            return {"smollm2_135m": lambda: [Prepared(folder, {"name": "smollm2_135m"}, write_model(folder))]}
        task = TASKS[names[0]]
        regime = regime or next(iter(task.regimes))
        return {task.name: partial(prepare_task, task, out or artifacts / task.name / regime, regime, seed or 0)}
    datasets = chosen(names)
    if regime or seed is not None:
        raise ValueError("--regime and --seed are for arithmetic and search")
    if expect is not None and len(datasets) > 1:
        raise ValueError("--expect is a number for one data set")
    readable = [dataset for dataset in datasets if not dataset.generate]
    if source and not readable:
        raise ValueError(f"{', '.join(names)} is generated: leave --source out")
    only_one, folder = len(readable) == 1, out or artifacts / "data"
    if len(source) > 1 and not only_one:
        raise ValueError("several --source are the parts of one data set: prepare it alone, or give one folder for all")
    options = (folder, source, expect, only_one)
    return {
        dataset.name: lambda dataset=dataset: [prepare(dataset, *options, partial(with_progress, dataset.name))]
        for dataset in datasets
    }


def remarks(done: Prepared) -> Iterator[str]:
    """What the table has no room for: warnings, and why rows were dropped."""
    manifest = done.manifest
    for warning in manifest.get("warnings", []):
        yield f"WARNING: {warning}"
    if manifest.get("conflicting_prompts"):
        yield f"{manifest['conflicting_prompts']} prompts with conflicting answers dropped"
    for reason, entry in manifest.get("dropped", {}).items():
        yield f"{entry['rows']} rows dropped, {reason}: {named(entry)}"
    for column, entry in manifest.get("restored_backslashes", {}).items():
        yield f"{entry['rows']} rows with LaTeX backslashes restored in {column}: {named(entry)}"
    if manifest.get("verl_data_sources"):
        yield f"source in verl's schema, data_source {', '.join(map(repr, manifest['verl_data_sources']))}"


def row(done: Prepared) -> tuple[str, ...]:
    manifest = done.manifest
    return (
        manifest["name"],
        "wrote" if done.wrote else "up to date",
        str(done.path),
        manifest.get("sha256", "")[:12],
        str(manifest.get("rows", "")),
        str(sum(entry["rows"] for entry in manifest.get("dropped", {}).values())),
    )


def with_progress(name: str, rows: Iterable[Row], total: int | None) -> Iterator[Row]:
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with progress(*columns) as bar:
        task = bar.add_task(name, total=total)
        for number, row in enumerate(rows, 1):
            if number % 256 == 0:  # an update costs more than a row
                bar.update(task, completed=number)
            yield row
