"""The `balanced-agg` command. Each subcommand imports what it needs when it runs, so that --help is fast."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from balanced_agg.checkout import find_checkout

USAGE_ERROR = 2

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True)


@app.callback()
def balanced_agg() -> None:
    """Balanced Aggregation (arXiv 2605.04077) for GRPO in verl."""


@app.command()
def prepare(
    names: Annotated[list[str] | None, typer.Argument(metavar="NAME", help="Data sets; none lists them.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder to write to.", show_default="artifacts/data of the checkout")
    ] = None,
    source: Annotated[Path | None, typer.Option(help="File or folder to read in place of the hub.")] = None,
    expect: Annotated[int | None, typer.Option(help="Distinct problems that the source must have.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the manifests as JSON.")] = False,
) -> None:
    """Write data sets as parquet files for verl, each with a manifest. What is in place is left alone."""
    try:
        checkout = find_checkout()
    except FileNotFoundError as error:
        typer.echo(f"balanced-agg prepare {error}.", err=True)
        raise typer.Exit(USAGE_ERROR) from None
    sys.path.insert(0, str(checkout))  # `data` is a folder of the checkout
    from data.command import run

    raise typer.Exit(run(names or [], out or checkout / "artifacts" / "data", source, expect, as_json))


def main() -> None:
    app()


if __name__ == "__main__":
    main()
