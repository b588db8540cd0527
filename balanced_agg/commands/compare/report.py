"""A comparison as one HTML file: tables, remarks, pictures, runs. It needs nothing beside it and no script."""

from base64 import b64encode
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from balanced_agg.commands.compare.table import Table, remarks_of, run_table

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
PICTURES = (
    "Lines: mean over seeds at the steps that every seed has; bands: from the lowest to the highest seed. Thin lines "
    "that end in a cross: single runs that were cut short, in no mean."
)


def html(summary: dict[str, Any], tabled: Sequence[tuple[str, Sequence[Table]]], pictures: dict[str, bytes]) -> str:
    """Render the report. `tabled`: each setting's title and tables; `pictures`: what each shows -> PNG, in order."""
    remarks = remarks_of(summary)
    body = [
        "<h1>Aggregations compared</h1>",
        f"<p>{len(summary['runs'])} runs: {escape(', '.join(setting for setting, _ in tabled))}.</p>",
        "<h2>Remarks</h2>",
        listed(remarks) if remarks else "<p>None: all runs have the same length, seeds, benchmarks and config.</p>",
    ]
    for setting, tables in tabled:
        body += [f"<h2>{escape(setting)}</h2>", *map(as_html, tables)]
    body += ["<h2>Pictures</h2>", f"<p>{escape(PICTURES)}</p>"]
    body += [embedded(name, png) for name, png in pictures.items()]
    body += ["<h2>Runs</h2>", as_html(run_table(summary["runs"]))]
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Aggregations compared</title><style>{STYLE}</style></head>\n<body>\n"
        + "\n".join(body)
        + "\n</body></html>\n"
    )


def listed(sentences: Iterable[str]) -> str:
    return f"<ul>{''.join(f'<li>{escape(sentence)}</li>' for sentence in sentences)}</ul>"


def as_html(table: Table) -> str:
    """Render a table. A row with its first cell filled begins a block; a number with a * is bold."""
    lines = [f'<div class="wide"><table><caption>{escape(table.caption)}</caption>']
    lines.append(row_of("th", table.header, table.text_columns))
    lines += [row_of("td", row, table.text_columns, "first" if row[0] else "") for row in table.rows]
    return "\n".join([*lines, "</table></div>"])


def row_of(tag: str, cells: Sequence[str], text_columns: int, kind: str = "") -> str:
    written = []
    for column, cell in enumerate(cells):
        text = f"<strong>{escape(cell)}</strong>" if column >= text_columns and cell.endswith("*") else escape(cell)
        written.append(f"<{tag}{' class=left' if column < text_columns else ''}>{text}</{tag}>")
    return f"<tr{f' class={kind}' if kind else ''}>{''.join(written)}</tr>"


def embedded(name: str, png: bytes) -> str:
    title, data = escape(" ".join(name.split())), b64encode(png).decode()
    return f'<figure><img alt="{title}" src="data:image/png;base64,{data}"></figure>'
