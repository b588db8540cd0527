"""Tables, messages and progress for people: by rich on a terminal, plain text anywhere else.

Names, paths and errors may come with somebody else's files: what a terminal would obey in them is shown as text.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import typer
from rich.box import HEAVY_HEAD
from rich.console import Console
from rich.progress import Progress, ProgressColumn
from rich.table import Table
from rich.text import Text

from balanced_agg.untrusted import shown


class TextConsole(Console):
    """A console that prints text of any source, with its line breaks and tabs."""

    def print(self, *objects: Any, **options: Any) -> None:
        super().print(*(shown(item, keep="\n\t") if isinstance(item, str) else item for item in objects), **options)


# Results alone go to stdout; messages and progress to stderr.
results = TextConsole(highlight=False, markup=False)
messages = TextConsole(stderr=True, soft_wrap=True, highlight=False, markup=False)


def print_table(
    header: Sequence[str],
    rows: Iterable[Sequence[str | Text]],
    title: str = "",
    caption: str = "",
    text_columns: int = 1,
) -> None:
    """A rich table on a terminal; elsewhere aligned columns under a plain header, a line a row, nothing cut or wrapped.

    The first `text_columns` stand left, the others are numbers and stand right. Cells are plain text of one line, no
    markup; a rich Text brings a style, and may have several. With an empty header, only the rows are printed.
    """
    header, title, caption = [shown(name) for name in header], shown(title), shown(caption, keep="\n")
    lines = [[as_text(cell) for cell in row] for row in rows]
    if results.is_terminal:
        table = Table(
            title=Text(title) if title else None,
            caption=Text(caption) if caption else None,
            title_justify="left",
            show_header=bool(header),
            box=HEAVY_HEAD if header else None,
        )
        for column, name in enumerate(header or lines[0]):
            table.add_column(Text(str(name)), justify="left" if column < text_columns else "right", overflow="fold")
        for line in lines:
            table.add_row(*line)
        results.print(table)
        return
    columns = []
    plain = [*([header] if header else []), *([cell.plain for cell in line] for line in lines)]
    for number, column in enumerate(zip(*plain, strict=True)):
        width = max(map(len, column))
        columns.append([cell.ljust(width) if number < text_columns else cell.rjust(width) for cell in column])
    printed = ["  ".join(row).rstrip() for row in zip(*columns, strict=True)]
    print(*([title] if title else []), *printed, *([caption] if caption else []), sep="\n")


def as_text(cell: str | Text) -> Text:
    if not isinstance(cell, Text):
        return Text(shown(cell))
    return Text.assemble(*((shown(piece.text, keep="\n"), piece.style) for piece in cell.render(results)))


def print_lines(lines: Iterable[str]) -> None:
    """Sentences, plain: broken between words on a terminal, and not at all elsewhere."""
    for line in lines:
        results.print(line, soft_wrap=not results.is_terminal)


def print_json(data: Any) -> None:
    text = json.dumps(data, indent=2, ensure_ascii=False)
    # JSON asks for fewer escapes than a terminal does.
    print("".join(char if char.isprintable() or char == "\n" else json.dumps(char)[1:-1] for char in text))


def progress(*columns: ProgressColumn) -> Progress:
    """A progress bar on a terminal, nothing elsewhere."""
    return Progress(*columns, console=messages, transient=True, disable=not messages.is_terminal)


@contextmanager
def errors_in_one_line(command: str, *failures: type[Exception]) -> Iterator[None]:
    """End the command with a line on stderr and exit code 1 for one of these failures, 2 for another ValueError."""
    try:
        yield
    except (*failures, ValueError) as error:
        messages.print(f"balanced-agg {command}: {shown(error)}")
        raise typer.Exit(1 if isinstance(error, failures) else 2) from None
