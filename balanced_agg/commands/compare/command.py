"""`balanced-agg compare`: read the runs, print the tables, write the report."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from balanced_agg.atomic_write import atomic_write
from balanced_agg.commands.compare import table
from balanced_agg.commands.compare.groups import settings
from balanced_agg.commands.compare.pictures import overview, picture, plots
from balanced_agg.commands.compare.report import html
from balanced_agg.commands.compare.summary import summarize
from balanced_agg.commands.terminal import messages, print_lines, print_table
from balanced_agg.runs.run import read_runs
from balanced_agg.runs.wandb_log import WandbError

FAILURE, USAGE_ERROR = 1, 2


def run(paths: Sequence[str], out: Path | None, as_json: bool) -> int:
    """Exit code: 0, 2 for runs that cannot be compared as given, 1 where wandb's server could not be asked."""
    try:
        compared = settings(read_runs(paths))
    except ValueError as error:
        messages.print(f"balanced-agg compare: {error}", markup=False)
        return USAGE_ERROR
    except (WandbError, OSError) as error:
        messages.print(f"balanced-agg compare: {error}", markup=False)
        return FAILURE
    except ModuleNotFoundError as error:
        messages.print(f"balanced-agg compare needs {error.name}: pip install 'balanced-agg[analysis]'", markup=False)
        return FAILURE
    drawn, remarks = plots(compared)
    summary = summarize(compared, remarks)
    if as_json:
        json.dump(summary, sys.stdout, indent=2)
        print()
    else:
        show(summary)
    if out is not None:
        pictures = {plot.label: (plot.name, picture(plot, compared)) for plot in drawn}
        whole = overview(drawn, compared)
        files = {f"{name}.png": png for name, png in pictures.values()}
        files |= {"comparison.png": whole} if whole else {}
        files["report.html"] = html(summary, {label: png for label, (_, png) in pictures.items()}).encode()
        for name, content in files.items():
            with atomic_write(out / name) as unfinished:
                unfinished.write_bytes(content)
        messages.print(f"written: {out / 'report.html'} and {len(files) - 1} pictures", markup=False)
    return 0


def show(summary: dict) -> None:
    for setting in summary["settings"]:
        if setting["benchmarks"]:
            title, caption = table.title(setting), table.CAPTION
            print_table(table.ACCURACY_HEADER, table.accuracy_rows(setting), title, caption, text_columns=2)
            print()
        print_table(table.FINAL_HEADER, table.final_rows(setting), table.title(setting), table.FINAL_CAPTION)
        print()
    print_lines(table.remarks(summary))
