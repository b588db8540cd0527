"""`balanced-agg evaluate`: a recipe's validation on a checkpoint or a model, and a table of it beside the weights."""

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from balanced_agg.atomic_write import atomic_write
from balanced_agg.commands.evaluate.samples import asked, read_samples
from balanced_agg.commands.evaluate.table import CAPTION, HEADER, cells, markdown, remarks, summarize
from balanced_agg.commands.evaluate.target import SHARDS, Target, last_of_each_key, load_config, resolve_target
from balanced_agg.commands.overrides import override, quote_paths, value_of
from balanced_agg.commands.recipes import root
from balanced_agg.commands.terminal import errors_in_one_line, messages, print_json, print_table
from balanced_agg.runs.wandb_log import one_line


def run(name: str, recipe: str | None, overrides: Sequence[str], table_only: bool, as_json: bool) -> int:
    """The exit code: that of the validation run, or 2 for a target that cannot be evaluated.

    With --table-only nothing is run: the table is made of the samples of an earlier evaluation. With --json nothing but
    JSON is on stdout: the run's log is on stderr.
    """
    with errors_in_one_line("evaluate", OSError):
        target = resolve_target(name, recipe)
        overrides = quote_paths(overrides, root())
        for given in overrides:
            if given.startswith("run.dir="):
                target.results = Path(value_of(given)).resolve()
        samples = target.results / "samples"
        if table_only and not any(samples.glob("*.jsonl")):
            raise ValueError(f"--table-only: there are no samples in {samples}; evaluate without it")

    arguments = last_of_each_key(
        [
            override("run.dir", target.results),
            override("run.name", target.results.name),
            *target.overrides,
            *overrides,
        ]
    )
    command = [sys.executable, "-m", "balanced_agg", "train", target.recipe]
    command += ["+evaluation=validation_only", override("actor_rollout_ref.model.path", target.model), *arguments]
    if "--cfg" in overrides:
        return subprocess.run(command).returncode

    if not table_only:
        messages.print(f"evaluating {target.name} by the validation of recipe {target.recipe}")
        if target.shards:
            try:
                merge(target)
            except subprocess.CalledProcessError as error:
                messages.print(f"{target.shards} cannot be merged: exit code {error.returncode}; the log is above")
                return error.returncode
        if samples.is_dir():  # of an earlier evaluation, which verl would write over
            samples.rename(
                samples.with_name(time.strftime("samples-%Y%m%d-%H%M%S", time.localtime(samples.stat().st_mtime)))
            )
        done = subprocess.run(command, stdout=sys.stderr)
        if done.returncode:
            messages.print(f"the validation run failed with exit code {done.returncode}; its log is above")
            return done.returncode
    try:
        summary = report(target)
    except (ValueError, OSError) as error:
        remedy = f"the samples stay in {samples}, and --table-only makes the table of them"
        messages.print(f"balanced-agg evaluate: {error}; {remedy}")
        return 1
    if as_json:
        print_json(summary)
    else:
        print_table(HEADER, cells(summary), target.name, "\n".join([CAPTION, *remarks(summary)]))
        print(f"written: {target.results}/evaluation.json and evaluation.md")
    return 0


def merge(target: Target) -> None:
    """Merge FSDP shards of any world size into a model directory (verl's own merger, bf16), unless that is newer."""
    merged = Path(target.model)
    newest = max(shard.stat().st_mtime for shard in target.shards.glob(SHARDS))
    if merged.is_dir() and merged.stat().st_mtime > newest:
        return
    with atomic_write(merged) as temporary:
        command = [sys.executable, "-m", "verl.model_merger", "merge", "--backend", "fsdp"]
        command += ["--local_dir", str(target.shards), "--target_dir", str(temporary)]
        subprocess.run(command, check=True, stdout=sys.stderr)


def report(target: Target) -> dict:
    """Write evaluation.json and evaluation.md into the results folder; the summary that was written."""
    file = target.results / ".hydra/config.yaml"
    config = load_config(file, DictConfig)
    try:
        files = [config.data.val_files] if isinstance(config.data.val_files, str) else list(config.data.val_files)
        sampling = config.actor_rollout_ref.rollout.val_kwargs
        conditions = {
            # What a score depends on besides the weights.
            "sampling": {key: sampling[key] for key in ("do_sample", "temperature", "top_p", "top_k")},
            "max_response_length": config.data.max_response_length,
            "seed": config.run.seed,
            "files": files,
        }
        responses, complete = sampling.n, config.data.val_max_samples <= 0
    except (OmegaConfBaseException, AttributeError, TypeError) as error:
        raise ValueError(f"{file} is incomplete: {one_line(error)}") from None
    dump = next(iter(sorted((target.results / "samples").glob("*.jsonl"))), None)
    if dump is None:
        raise ValueError("the validation has left no samples")
    benchmarks = read_samples(dump, asked([root() / name for name in files], responses), complete)
    summary = {"evaluated": target.name, "recipe": target.recipe, **conditions, **summarize(benchmarks)}
    for name, text in (
        ("evaluation.json", json.dumps(summary, indent=2) + "\n"),
        ("evaluation.md", markdown(summary, target.name)),
    ):
        with atomic_write(target.results / name) as temporary:
            temporary.write_text(text, encoding="utf-8", errors="replace")
    return summary
