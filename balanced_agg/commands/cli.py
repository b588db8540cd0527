"""The `balanced-agg` command. Each subcommand imports what it needs when it runs, so that --help is fast."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from balanced_agg.commands.terminal import errors_in_one_line, messages
from balanced_agg.plugin.installation import install_command

# Modules of the extra `analysis`, the commands that can do without verl or need both, and modules that come with verl.
ANALYSIS = {"matplotlib", "pandas", "pyarrow", "scipy", "tensorboard", "wandb", "wandb_workspaces", "yaml"}
BY_EXTRA = ("compare", "inspect", "prepare", "study", "workspace")
OF_VERL = {"aiohttp", "hydra", "omegaconf", "ray", "torch", "transformers", "verl"}
# Options that are not ours are Hydra's, or those of `ray start`: they are handed on.
HANDS_ON = {"ignore_unknown_options": True}

Recipe = Annotated[str, typer.Argument(metavar="RECIPE", help="A recipe of the package; an unknown name lists them.")]
Overrides = Annotated[list[str] | None, typer.Argument(metavar="OVERRIDES", help="Hydra overrides and options.")]
Json = Annotated[bool, typer.Option("--json", help="Print the results as JSON, alone on stdout.")]


class Commands(TyperGroup):
    """Our commands; one that lacks a module of the extra `analysis` or of verl ends in a line that says so."""

    def invoke(self, ctx: typer.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ModuleNotFoundError as error:
            module, command = (error.name or "").partition(".")[0], ctx.invoked_subcommand
            if module not in ANALYSIS | OF_VERL:
                raise
            by_extra = module in ANALYSIS and command in BY_EXTRA
            remedy = install_command("analysis") if by_extra else "run it in the environment that has verl"
            messages.print(f"balanced-agg {command} needs {module}: {remedy}")
            raise typer.Exit(1) from None


app = typer.Typer(cls=Commands, add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True)
node = typer.Typer(no_args_is_help=True, help="Start a node of a Ray cluster: its head, or a worker that joins it.")
app.add_typer(node, name="node")


@app.callback()
def balanced_agg() -> None:
    """Balanced Aggregation (arXiv 2605.04077) for GRPO in verl.

    Runs keep artifacts/ and outputs/ in BALANCED_AGG_ROOT (default: the current directory).
    """


@app.command(context_settings=HANDS_ON)
def train(recipe: Recipe, overrides: Overrides = None) -> None:
    """Train a recipe: verl's own entry point, with the recipe's config and the environment that it needs.

    balanced-agg train arithmetic aggregation=token run.seed=2

    With --cfg job [--resolve] the composed config is printed, and nothing starts.
    """
    from balanced_agg.commands.train import run

    run(recipe, overrides or [])


class ListOptions(TyperCommand):
    """Options that take several values: ``--seeds 0 1 2`` is ``--seeds 0 --seeds 1 --seeds 2``."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:
        repeated, option = [], None
        for argument in args:
            if argument.startswith("--"):
                option = argument if argument in ("--aggregations", "--seeds", "--orders") else None
                repeated += [] if option else [argument]
            else:
                several = option and "=" not in argument  # an override may stand anywhere
                repeated += [option, argument] if several else [argument]
        return super().parse_args(ctx, repeated)


@app.command(cls=ListOptions)
def sweep(
    recipe: Recipe,
    aggregations: Annotated[
        list[str],
        typer.Option(
            metavar="AGGREGATION…", help="What `aggregation=` takes, also as delta_l:0.5 or token@equal-mass."
        ),
    ],
    seeds: Annotated[list[int], typer.Option(metavar="SEED…", help="What `run.seed=` takes.")],
    overrides: Overrides = None,
    folder: Annotated[
        Path | None, typer.Option("--dir", metavar="DIR", help="Folder for the runs.", show_default="outputs")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder for the report.", show_default="DIR/RECIPE-comparison")
    ] = None,
    ray_address: Annotated[
        str | None, typer.Option(metavar="URL", help="Submit each run as a job to this Ray cluster's dashboard.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the commands, and start nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Train a recipe under several aggregations and seeds, one run after the other, and compare the runs.

    balanced-agg sweep arithmetic --aggregations balanced token sequence --seeds 0 1 2

    The same command resumes a sweep: runs that have finished are skipped, those that were interrupted resume from their
    last checkpoint. A run that fails does not keep the others from running. The end is `balanced-agg compare` over all
    runs that logged anything.
    """
    from balanced_agg.commands.sweep import run

    raise typer.Exit(run(recipe, aggregations, seeds, overrides or [], folder, out, ray_address, dry_run, as_json))


@app.command(cls=ListOptions)
def study(
    plan: Annotated[str, typer.Argument(metavar="PLAN", help="A YAML file, or a name in configs/study: rules.")],
    orders: Annotated[
        list[int] | None,
        typer.Option(metavar="ORDER…", help="Of the plan's runs.", show_default="all, from the lowest"),
    ] = None,
    folder: Annotated[
        Path | None, typer.Option("--dir", metavar="DIR", help="Folder for the runs.", show_default="outputs/study")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder for record and report.", show_default="docs/study")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the commands, and start nothing.")] = False,
    report_only: Annotated[
        bool, typer.Option("--report-only", help="Start nothing; record what has been logged, and report.")
    ] = False,
) -> None:
    """Run a plan of several sweeps, seed by seed, and report on its hypotheses.

    balanced-agg study rules --orders 0 1

    The same command resumes it, as `sweep` does. It adds what the runs have logged to a record (runs.json,
    metrics.parquet), from which report.md and its pictures are made; runs that are in the record stay there when their
    folders are gone.
    """
    from balanced_agg.commands.study.command import run

    raise typer.Exit(run(plan, orders or [], folder, out, dry_run, report_only))


@app.command(context_settings=HANDS_ON)
def evaluate(
    target: Annotated[
        str, typer.Argument(metavar="CHECKPOINT|MODEL", help="verl checkpoint, model directory or hub id.")
    ],
    overrides: Overrides = None,
    recipe: Annotated[
        str | None, typer.Option(help="Whose validation to run.", show_default="that of the checkpoint's run or model")
    ] = None,
    table_only: Annotated[
        bool, typer.Option("--table-only", help="Run nothing: make the table of an earlier evaluation's samples anew.")
    ] = False,
    trust_code: Annotated[
        bool,
        typer.Option(
            "--trust-code", help="Run code that the checkpoint brings: pickled in it, or named in its run's overrides."
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Run a recipe's validation on a checkpoint or a model, and write a table beside the weights."""
    from balanced_agg.commands.evaluate.command import run

    raise typer.Exit(run(target, recipe, overrides or [], table_only, trust_code, as_json))


@app.command(context_settings=HANDS_ON)
def submit(
    recipe: Recipe,
    overrides: Overrides = None,
    ray_address: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            envvar="RAY_API_SERVER_ADDRESS",
            help="The dashboard of the cluster's head, http://HEAD:8265.",
        ),
    ] = None,
    nodes: Annotated[
        int | None, typer.Option(metavar="N", help="Train on N nodes, and wait until they are up.")
    ] = None,
    wait: Annotated[float, typer.Option(metavar="SECONDS", help="How long to wait for the cluster.")] = 60,
) -> None:
    """Train a recipe on a running Ray cluster; output and exit status are those of the run, Ctrl-C stops it.

    The environment is the same on all nodes, at the same path, and they share the working directory. The job gets what
    is exported here of BALANCED_AGG_*, VERL_*, VLLM_*, WANDB_*, HF_HUB_OFFLINE and OMP_NUM_THREADS, but no name with
    KEY, TOKEN, SECRET or PASSWORD: Ray shows a job's variables. Export those where the nodes are started.
    """
    from balanced_agg.commands.cluster.submit import run

    raise typer.Exit(run(recipe, ray_address, nodes, wait, overrides or []))


RayOptions = Annotated[list[str] | None, typer.Argument(metavar="RAY_OPTIONS", help="Options of `ray start`.")]


@node.command(context_settings=HANDS_ON)
def head(
    ray_options: RayOptions = None,
    node_ip_address: Annotated[
        str | None, typer.Option(metavar="IP", help="Address that the head listens on.", show_default="as Ray finds it")
    ] = None,
    port: int = 6379,
    dashboard_port: int = 8265,
) -> None:
    """Start the head in the foreground, make the token where there is none, and say how to join and submit."""
    from balanced_agg.commands.cluster import node

    with errors_in_one_line("node", ValueError):
        node.head(node_ip_address, port, dashboard_port, ray_options or [])


@node.command(context_settings=HANDS_ON)
def worker(
    head: Annotated[str, typer.Argument(metavar="HEAD[:PORT]")],
    ray_options: RayOptions = None,
    wait: Annotated[float, typer.Option(metavar="SECONDS", help="How long to wait for the head.")] = 300,
) -> None:
    """Join a head, once it listens, in the foreground; a worker needs a copy of the head's token file."""
    from balanced_agg.commands.cluster import node

    with errors_in_one_line("node", ValueError, TimeoutError):
        node.worker(head, wait, ray_options or [])


@app.command(context_settings=HANDS_ON)
def follow(
    run_dir: Annotated[Path, typer.Argument(metavar="RUN_DIR", help="Where the command writes metrics.jsonl.")],
    command: Annotated[list[str], typer.Argument(metavar="-- COMMAND", help="The training command.")],
) -> None:
    """Run a training command: its output in RUN_DIR/log.txt, one line for each step here, a summary at the end."""
    from balanced_agg.commands.follow import run

    raise typer.Exit(run(run_dir, command))


@app.command()
def prepare(
    names: Annotated[list[str] | None, typer.Argument(metavar="NAME", help="Data sets; without any, a list.")] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder to write to.", show_default="artifacts/data; what is no data set, beside it"),
    ] = None,
    source: Annotated[
        list[Path] | None, typer.Option(help="File or folder to read instead of the hub; several for one set's parts.")
    ] = None,
    expect: Annotated[int | None, typer.Option(help="Number of distinct problems that the source must have.")] = None,
    regime: Annotated[
        str | None,
        typer.Option(help="For arithmetic and search: length_gap or length_spread.", show_default="the recipe's"),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="For arithmetic and search.", show_default="0")] = None,
    as_json: Json = False,
) -> None:
    """Write data sets as parquet files for verl, each with a manifest. What is up to date is left alone.

    `balanced-agg prepare arithmetic` (or `search`) writes the data and the model of the recipe of that name.
    """
    from balanced_agg.commands.prepare import run

    raise typer.Exit(run(names or [], out, source or [], expect, regime, seed, as_json))


@app.command()
def compare(
    runs: Annotated[list[str], typer.Argument(metavar="RUN", help="Run folders, logs, wandb folders or paths.")],
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Write report.html and PNGs to this folder.")] = None,
    reference: Annotated[
        str | None, typer.Option(metavar="paper|FILE", help="Published accuracies to stand beside the runs.")
    ] = None,
    paired: Annotated[
        str | None,
        typer.Option(metavar="AGGREGATION", help="Subtract the runs under this one from the others, seed by seed."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Compare the aggregations of finished runs over seeds: peak, last step, drop, lengths, entropy.

    A RUN is a run folder (metrics.jsonl), a .jsonl of verl's file logger, a TensorBoard folder, a wandb offline folder,
    or a wandb path (entity/project or entity/project/run_id).
    """
    from balanced_agg.commands.compare.command import run

    raise typer.Exit(run(runs, out, as_json, reference, paired))


@app.command()
def inspect(
    rollouts: Annotated[list[Path], typer.Argument(metavar="ROLLOUTS", help="Folders, .jsonl or .parquet files.")],
    out: Annotated[Path | None, typer.Option(metavar="PNG", help="Draw a picture to this file.")] = None,
    as_json: Json = False,
    tokenizer: Annotated[
        str | None, typer.Option(metavar="PATH-OR-HUB-ID", help="Count tokens with it, the end of sequence included.")
    ] = None,
    length_field: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="Tokens of a response.", show_default="response_tokens if it is there"),
    ] = None,
    length_in: Annotated[
        str | None, typer.Option(metavar="characters|words", help="Count these instead of tokens; rough.")
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
            help="Column that is equal within a group.",
            show_default="the prompt part of uid, else the text of input",
        ),
    ] = None,
    advantage_field: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Advantages.", show_default="GRPO's, from the column score")
    ] = None,
    no_std: Annotated[
        bool, typer.Option("--no-std", help="Advantages not divided by the standard deviation, as in Dr. GRPO.")
    ] = False,
    rule: Annotated[
        list[str] | None,
        typer.Option(metavar="MODE", help="A further loss_agg_mode, such as delta-l:0.5 or FILE.py:FUNCTION."),
    ] = None,
) -> None:
    """What each aggregation would do to rollouts on disk, and what Balanced Aggregation would change.

    ROLLOUTS are those of one run: verl's trainer.rollout_data_dir (STEP.jsonl), or files with the same columns:
    score, uid or input, step. A file that has no column step, and no number for a name, is one step.
    """
    from balanced_agg.commands.inspect.command import run

    counted = (tokenizer, length_field, length_in, max_response_length)
    with errors_in_one_line("inspect", OSError):
        run(rollouts, out, as_json, *counted, group_field, advantage_field, not no_std, rule or [])


@app.command()
def doctor(
    recipe: Annotated[str | None, typer.Argument(metavar="RECIPE", help="Also check what this recipe needs.")] = None,
    overrides: Overrides = None,
    as_json: Json = False,
) -> None:
    """Check this machine: versions, plugin, platform, GPUs, disk, Ray, wandb; with a RECIPE, also what that needs.

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
    """Save a wandb workspace with the runs grouped by aggregation, and print its URL."""
    from balanced_agg.commands.workspace import run

    raise typer.Exit(run(path, name, dry_run))


def main() -> None:
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # names of files may be no text, and terminals ASCII
    app(prog_name="balanced-agg")
