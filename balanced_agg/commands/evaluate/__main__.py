"""Run a recipe's validation on a checkpoint or a model, and write a table of it beside the weights."""

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from rich.console import Console

import balanced_agg
from balanced_agg.atomic_write import replacing
from balanced_agg.commands.evaluate.samples import asked, read_samples
from balanced_agg.commands.evaluate.table import markdown, summarize, terminal
from balanced_agg.commands.evaluate.target import SHARDS, Target, last_of_each_key, resolve_target

CHECKOUT = Path(balanced_agg.__file__).parent.parent


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="scripts/evaluate.sh",
        usage="%(prog)s CHECKPOINT|MODEL [--recipe RECIPE] [--json] [Hydra overrides…]",
        description=__doc__,
        allow_abbrev=False,
    )
    parser.add_argument("target", metavar="CHECKPOINT|MODEL", help="verl checkpoint, model directory or hub id")
    parser.add_argument("--recipe", help="whose validation to run (default: told from what is evaluated)")
    parser.add_argument("--json", action="store_true", help="print the results as JSON, the run's own log on stderr")
    options, overrides = parser.parse_known_args()
    try:
        target = resolve_target(options.target, CHECKOUT, options.recipe)
    except ValueError as error:
        parser.error(str(error))
    for override in overrides:
        if override.startswith("run.dir="):
            target.results = Path(override.partition("=")[2]).resolve()

    arguments = last_of_each_key(
        [f"run.dir={target.results}", f"run.name={target.results.name}", *target.overrides, *overrides]
    )
    command = ["bash", str(CHECKOUT / "scripts/train.sh"), target.recipe]
    command += ["+evaluation=validation_only", f"actor_rollout_ref.model.path={target.model}", *arguments]
    if "--cfg" in overrides:
        return subprocess.run(command).returncode

    # On stderr, with the run's own log: --json leaves nothing but JSON on stdout.
    console = Console(stderr=True)
    console.print(f"evaluating {target.name} by the validation of recipe {target.recipe}")
    if target.shards:
        merge(target)
    shutil.rmtree(target.results / "samples", ignore_errors=True)
    done = subprocess.run(command, stdout=sys.stderr)
    if done.returncode:
        console.print(f"the validation run failed with exit code {done.returncode}; its log is above")
        return done.returncode
    summary = report(target)
    if options.json:
        print(json.dumps(summary, indent=2))
    else:
        Console().print(terminal(summary, target.name))
        Console().print(f"written: {target.results}/evaluation.json and evaluation.md", soft_wrap=True)
    return 0


def merge(target: Target) -> None:
    """Merge FSDP shards of any world size into a model directory (verl's own merger, bf16), unless that is newer."""
    merged = Path(target.model)
    newest = max(shard.stat().st_mtime for shard in target.shards.glob(SHARDS))
    if merged.is_dir() and merged.stat().st_mtime > newest:
        return
    with replacing(merged) as unfinished:
        command = [sys.executable, "-m", "verl.model_merger", "merge", "--backend", "fsdp"]
        command += ["--local_dir", str(target.shards), "--target_dir", str(unfinished)]
        subprocess.run(command, check=True, stdout=sys.stderr)


def report(target: Target) -> dict:
    """Write evaluation.json and evaluation.md into the results folder; the summary that was written."""
    config = OmegaConf.load(target.results / ".hydra/config.yaml")
    files = [config.data.val_files] if isinstance(config.data.val_files, str) else list(config.data.val_files)
    sampling = config.actor_rollout_ref.rollout.val_kwargs
    benchmarks = read_samples(
        next((target.results / "samples").glob("*.jsonl")),
        asked([CHECKOUT / file for file in files], sampling.n),
        whole=config.data.val_max_samples <= 0,
    )
    summary = {"evaluated": target.name, "recipe": target.recipe, **conditions(config, files), **summarize(benchmarks)}
    for name, text in (
        ("evaluation.json", json.dumps(summary, indent=2) + "\n"),
        ("evaluation.md", markdown(summary, target.name)),
    ):
        with replacing(target.results / name) as unfinished:
            unfinished.write_text(text)
    return summary


def conditions(config: DictConfig, files: list[str]) -> dict:
    """What a score depends on besides the weights."""
    sampling = config.actor_rollout_ref.rollout.val_kwargs
    return {
        "sampling": {key: sampling[key] for key in ("do_sample", "temperature", "top_p", "top_k")},
        "max_response_length": config.data.max_response_length,
        "seed": config.run.seed,
        "files": files,
    }


if __name__ == "__main__":
    os.environ["PWD"] = str(CHECKOUT)  # what configs call their paths from
    sys.exit(main())
