"""`balanced-agg evaluate`: a recipe's validation on a checkpoint or a model, and a table of it beside the weights."""

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from balanced_agg.atomic_write import atomic_write
from balanced_agg.commands.evaluate import merge
from balanced_agg.commands.evaluate.samples import asked, read_samples
from balanced_agg.commands.evaluate.table import CAPTION, HEADER, cells, markdown, remarks, summarize
from balanced_agg.commands.evaluate.target import Target, last_of_each_key, resolve_target
from balanced_agg.commands.follow import started
from balanced_agg.commands.overrides import override, quote_paths, value_of
from balanced_agg.commands.recipes import root
from balanced_agg.commands.terminal import errors_in_one_line, messages, print_json, print_lines, print_table
from balanced_agg.untrusted import read_yaml, select, shown


def run(name: str, recipe: str | None, overrides: Sequence[str], table_only: bool, trusted: bool, as_json: bool) -> int:
    """The exit code: that of the validation run, or 2 for a target that cannot be evaluated.

    Unless it is `trusted`, the checkpoint is data: its weights are loaded as tensors alone, and its run's overrides are
    taken over only as far as they cannot run code.

    With --table-only nothing is run: the table is made of the samples of an earlier evaluation. With --json nothing but
    JSON is on stdout: the run's log is on stderr.
    """
    with errors_in_one_line("evaluate", OSError):
        target = resolve_target(name, recipe, trusted)
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
                merge_shards(target, trusted)
            except subprocess.CalledProcessError as error:
                if error.returncode != merge.REFUSED:
                    messages.print(f"{target.shards} cannot be merged: exit code {error.returncode}; the log is above")
                return error.returncode
        if samples.is_dir():  # of an earlier evaluation, which verl would write over
            samples.rename(
                samples.with_name(time.strftime("samples-%Y%m%d-%H%M%S", time.localtime(samples.stat().st_mtime)))
            )
        with started(command, stdout=sys.stderr) as (process, _):
            status = process.wait()
        if status:
            messages.print(f"the validation run failed with exit code {status}; its log is above")
            return status
    try:
        # A run that has just gone through was composed of what the user trusts, on this machine.
        summary = report(target, trusted or not table_only)
    except (ValueError, OSError) as error:
        remedy = f"the samples stay in {samples}, and --table-only makes the table of them"
        messages.print(f"balanced-agg evaluate: {shown(error)}; {remedy}")
        return 1
    if as_json:
        print_json(summary)
    else:
        print_table(HEADER, cells(summary), target.name, "\n".join([CAPTION, *remarks(summary)]))
        print_lines([f"written: {target.results}/evaluation.json and evaluation.md"])
    return 0


def merge_shards(target: Target, trusted: bool) -> None:
    """Merge FSDP shards of any world size into a model directory, unless that is newer."""
    merged = Path(target.model)
    newest = max(shard.stat().st_mtime for shard in target.shards.glob(merge.SHARDS))
    if merged.is_dir() and merged.stat().st_mtime > newest:
        return
    with atomic_write(merged) as temporary:
        subprocess.run(merge.command(target.shards, temporary, trusted), check=True, stdout=sys.stderr)


def report(target: Target, trusted: bool) -> dict:
    """Write evaluation.json and evaluation.md into the results folder; the summary that was written.

    Interpolations of a config that is `trusted` may refer to more than keys of that config.
    """
    file = target.results / ".hydra/config.yaml"
    config = read_yaml(file)
    value_at = partial(select, config)
    if trusted and isinstance(config, dict):
        value_at = partial(OmegaConf.select, OmegaConf.create(config), throw_on_resolution_failure=False)

    def required(key: str, *kinds: type) -> Any:
        with suppress(OmegaConfBaseException):  # where a value stands in place of a section
            value = value_at(key)
            if isinstance(value, kinds) and not (isinstance(value, list) and None in value):
                return value
        beyond = "" if trusted else ", or refers to more than this config (add --trust-code if you trust it)"
        raise ValueError(f"{file} is incomplete: {key} is missing{beyond}")

    files, sampling = required("data.val_files", str, list, ListConfig), "actor_rollout_ref.rollout.val_kwargs"
    files = [files] if isinstance(files, str) else list(map(str, files))
    conditions = {
        # What a score depends on besides the weights.
        "sampling": {
            key: required(f"{sampling}.{key}", int, float) for key in ("do_sample", "temperature", "top_p", "top_k")
        },
        "max_response_length": required("data.max_response_length", int),
        "seed": required("run.seed", int),
        "files": files,
    }
    responses, complete = required(f"{sampling}.n", int), required("data.val_max_samples", int) <= 0
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
