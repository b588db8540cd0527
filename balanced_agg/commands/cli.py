"""The `balanced-agg` command. Each subcommand imports what it needs when it runs, so that --help is fast."""

from pathlib import Path
from typing import Annotated

import typer

from balanced_agg.commands.checkout import find_checkout

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
    from balanced_agg.data.command import run

    raise typer.Exit(run(names or [], out or checkout / "artifacts" / "data", source, expect, as_json))


@app.command()
def compare(
    runs: Annotated[list[str], typer.Argument(metavar="RUN", help="Run folders, logs, wandb folders or paths.")],
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Write report.html and PNGs to this folder.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything the tables hold as JSON.")] = False,
) -> None:
    """Compare the aggregation modes of finished runs, over seeds: peak, last, drop, lengths, entropy.

    A RUN is a run folder (metrics.jsonl), a .jsonl of verl's file logger, a TensorBoard folder, a wandb offline folder,
    or a wandb path (entity/project or entity/project/run_id).
    """
    from balanced_agg.commands.compare.command import run

    raise typer.Exit(run(runs, out, as_json))


@app.command()
def inspect(
    rollouts: Annotated[list[Path], typer.Argument(metavar="ROLLOUTS", help="Folders, .jsonl or .parquet files.")],
    out: Annotated[Path | None, typer.Option(metavar="PNG", help="Draw a picture to this file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print all measures of all steps as JSON.")] = False,
    tokenizer: Annotated[
        str | None, typer.Option(metavar="PATH-OR-HUB-ID", help="Count the tokens of the text and the end of sequence.")
    ] = None,
    length_field: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="Tokens of each response.", show_default="response_tokens if it is there"),
    ] = None,
    length_in: Annotated[
        str | None, typer.Option(metavar="characters|words", help="Instead of tokens; a rough answer.")
    ] = None,
    max_response_length: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="TOKENS",
            help="The run's limit: what Dr. GRPO divides by, and where responses were cut.",
            show_default="the longest response of each step",
        ),
    ] = None,
    group_field: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN",
            help="Equal within a group.",
            show_default="the prompt part of uid, else the text of input",
        ),
    ] = None,
    advantage_field: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Advantages.", show_default="GRPO's, from the column score")
    ] = None,
    no_std: Annotated[
        bool, typer.Option("--no-std", help="Advantages not divided by the standard deviation, as in Dr. GRPO.")
    ] = False,
) -> None:
    """What each aggregation rule would do to rollouts on disk: "what would BA change in my run?"

    ROLLOUTS are those of one run: verl's trainer.rollout_data_dir (STEP.jsonl), or files with the same columns:
    score, uid or input, step. A file that has no column step, and no number for a name, is one step.
    """
    from balanced_agg.commands.inspect.command import run

    lengths = {"length_field": length_field, "tokenizer": tokenizer, "length_in": length_in}
    try:
        if advantage_field and no_std:
            raise ValueError(
                "--advantage-field and --no-std exclude each other; --no-std is for advantages from scores"
            )
        run(
            rollouts,
            out,
            as_json,
            **lengths,
            max_response_length=max_response_length,
            group_field=group_field,
            advantage_field=advantage_field,
            divide_by_std=not no_std,
        )
    except (ValueError, OSError) as error:
        typer.echo(f"balanced-agg inspect: {error}", err=True)
        raise typer.Exit(USAGE_ERROR if isinstance(error, ValueError) else 1) from None


@app.command()
def doctor(
    recipe: Annotated[str | None, typer.Argument(metavar="RECIPE", help="Also hold this recipe against it.")] = None,
    overrides: Annotated[list[str] | None, typer.Argument(metavar="OVERRIDES", help="Hydra overrides.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the lines as JSON.")] = False,
) -> None:
    """Is this machine ready: versions, plugin, platform, GPUs, disk, Ray, wandb, and what a recipe asks for?

    Exit code 0 if nothing keeps a run from working, 1 if something does, 2 for a recipe that does not compose.
    """
    from balanced_agg.commands.doctor.command import run

    raise typer.Exit(run(recipe, overrides or [], as_json))


@app.command()
def workspace(
    path: Annotated[str, typer.Argument(metavar="ENTITY/PROJECT", help="The project on wandb.")],
    name: Annotated[str, typer.Option(help="Name of the saved view.")] = "Balanced Aggregation",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print it as JSON; needs no key and no network.")] = False,
) -> None:
    """Save a wandb workspace with the runs grouped by aggregation mode, and print its URL."""
    from balanced_agg.commands.workspace import run

    raise typer.Exit(run(path, name, dry_run))


def main() -> None:
    app()


if __name__ == "__main__":
    main()
