"""Tables and progress for people: by rich on a terminal, plain text anywhere else."""

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

# Messages and progress; stdout has results only.
messages = Console(stderr=True, soft_wrap=True, highlight=False)


def print_table(
    header: Sequence[str], rows: Iterable[Sequence[str]], title: str = "", caption: str = "", text_columns: int = 1
) -> None:
    """A rich table on a terminal; elsewhere aligned columns under a plain header, a line a row, nothing cut or wrapped.

    The first `text_columns` stand left, the others are numbers and stand right. Cells are plain text, no markup.
    """
    rows = [[str(cell) for cell in row] for row in rows]
    console = Console()
    if console.is_terminal:
        table = Table(title=escape(title) or None, caption=escape(caption) or None, title_justify="left")
        for column, name in enumerate(header):
            table.add_column(escape(name), justify="left" if column < text_columns else "right", overflow="fold")
        for row in rows:
            table.add_row(*map(escape, row))
        console.print(table)
        return
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = ["  ".join(_aligned(row, widths, text_columns)).rstrip() for row in (header, *rows)]
    print(*([title] if title else []), *lines, *([caption] if caption else []), sep="\n")


def _aligned(row: Sequence[str], widths: Sequence[int], text_columns: int) -> list[str]:
    sized = enumerate(zip(row, widths, strict=True))
    return [cell.ljust(width) if column < text_columns else cell.rjust(width) for column, (cell, width) in sized]
