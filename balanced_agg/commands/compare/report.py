"""A comparison as one HTML file: tables, remarks, pictures, runs. It needs nothing beside it and no script."""

from base64 import b64encode
from collections.abc import Sequence
from html import escape
from typing import Any

from balanced_agg.commands.compare.table import Table, remarks_of, run_table
from balanced_agg.untrusted import shown

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222; margin: 0 auto; padding: 1rem; max-width: 62rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.2rem; margin-top: 2.5rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; white-space: nowrap; }
caption { caption-side: bottom; text-align: left; color: #555; font-size: .9rem; padding-top: .5rem; }
caption { white-space: normal; }
th { border-bottom: 2px solid #222; } th, td { padding: .25rem .7rem; text-align: right; }
tr.first td { border-top: 1px solid #bbb; }
.left { text-align: left; }
figure { margin: 1.5rem 0; } img { max-width: 100%; height: auto; }
li { margin-bottom: .3rem; overflow-wrap: anywhere; }
"""
PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Aggregations compared</title><style>{style}</style></head>
<body>
<h1>Aggregations compared</h1>
<p>{count} runs: {settings}.</p>
<h2>Remarks</h2>
<ul>{remarks}</ul>
{tables}
<h2>Pictures</h2>
<p>Lines: mean over seeds at the steps that every seed has; bands: from the lowest to the highest seed. Thin lines that
end in a cross: single runs that were cut short, in no mean. Hollow markers behind the last step: the reference.</p>
{pictures}
<h2>Runs</h2>
{runs}
</body></html>
"""


def html(summary: dict[str, Any], tabled: Sequence[tuple[str, Sequence[Table]]], pictures: dict[str, bytes]) -> str:
    """Render the report. `tabled`: each setting's title and tables; `pictures`: what each shows -> PNG, in order."""
    remarks = remarks_of(summary) or ["None: all runs have the same length, seeds, benchmarks and config."]
    sections = []
    for setting, tables in tabled:
        sections += [f"<h2>{text(setting)}</h2>", *map(as_html, tables)]
    figures = []
    for name, png in pictures.items():
        title, data = text(" ".join(name.split())), b64encode(png).decode()
        figures.append(f'<figure><img alt="{title}" src="data:image/png;base64,{data}"></figure>')
    return PAGE.format(
        style=STYLE,
        count=len(summary["runs"]),
        settings=text(", ".join(setting for setting, _ in tabled)),
        remarks="".join(f"<li>{text(remark)}</li>" for remark in remarks),
        tables="\n".join(sections),
        pictures="\n".join(figures),
        runs=as_html(run_table(summary["runs"])),
    )


def text(value: str) -> str:
    """As HTML that shows each of its characters, and obeys none."""
    return escape(shown(value))


def as_html(table: Table) -> str:
    """Render a table. A row with its first cell filled begins a block; a number with a * is bold."""
    lines = [f'<div class="wide"><table><caption>{text(table.caption)}</caption>']
    for tag, cells in (("th", table.header), *(("td", row) for row in table.rows)):
        row = ""
        for column, cell in enumerate(cells):
            left = " class=left" if column < table.text_columns else ""
            content = text(cell) if left or not cell.endswith("*") else f"<strong>{text(cell)}</strong>"
            row += f"<{tag}{left}>{content}</{tag}>"
        lines.append(f"<tr{' class=first' if tag == 'td' and cells[0] else ''}>{row}</tr>")
    return "\n".join([*lines, "</table></div>"])
