"""`balanced-agg compare`: read the runs, print the tables, write the report."""

from collections.abc import Sequence
from pathlib import Path

from balanced_agg.atomic_write import atomic_write
from balanced_agg.commands.compare.groups import settings
from balanced_agg.commands.compare.pictures import drawable, overview, picture
from balanced_agg.commands.compare.reference import read_reference
from balanced_agg.commands.compare.report import html
from balanced_agg.commands.compare.summary import summarize
from balanced_agg.commands.compare.table import remarks_of, tables_of, title
from balanced_agg.commands.terminal import errors_in_one_line, messages, print_json, print_lines, print_table
from balanced_agg.runs.run import read_runs
from balanced_agg.runs.wandb_log import WandbError


def run(
    paths: Sequence[str], out: Path | None, as_json: bool, named: str | None = None, base: str | None = None
) -> int:
    """Print the comparison, and write it to `out`; the exit code. `named` is a reference, or a file with one; `base` is
    the aggregation that is subtracted from the others by seed, as `aggregation=` or as `loss_agg_mode` names it.

    Runs that cannot be read are left out, with a remark, as long as there is another one.
    """
    left_out: list[str] = []
    with errors_in_one_line("compare", WandbError, OSError):
        reference = read_reference(named) if named else None
        compared = settings(read_runs(paths, left_out))
    drawn, remarks = drawable(compared)
    summary = summarize(compared, [*(f"Left out: {reason}" for reason in left_out), *remarks], reference, base)
    tabled = [(title(setting), tables_of(setting)) for setting in summary["settings"]]
    if as_json:
        print_json(summary)
    else:
        for setting, tables in tabled:
            for table in tables:
                print_table(table.header, table.rows, setting, table.caption, table.text_columns)
                print()
        print_lines(remarks_of(summary))
    if out is not None:
        rows = {setting["setting"]: setting["reference"]["rows"] for setting in summary["settings"] if reference}
        pictures = {quantity: picture(quantity, compared, rows) for quantity in drawn}
        files = {f"{quantity.name}.png": png for quantity, png in pictures.items()}
        if overall := overview(drawn, compared, rows):
            files["comparison.png"] = overall
        labelled = {quantity.label: png for quantity, png in pictures.items()}
        files["report.html"] = html(summary, tabled, labelled).encode()
        with errors_in_one_line("compare", OSError):
            for name, content in files.items():
                with atomic_write(out / name) as temporary:
                    temporary.write_bytes(content)
        messages.print(f"written: {out / 'report.html'} and {len(files) - 1} pictures")
    return 0
