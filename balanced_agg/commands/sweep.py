"""`balanced-agg sweep`: train a recipe under several aggregations and seeds, run after run, and compare the runs.

A second sweep of the same runs, started beside the first one with GPUs of its own, takes those that have not begun.
"""

import json
import os
import re
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from balanced_agg.atomic_write import atomic_write
from balanced_agg.commands.follow import execute, last_lines
from balanced_agg.commands.overrides import override
from balanced_agg.commands.recipes import CONFIGS, check_recipe_name, root
from balanced_agg.commands.terminal import errors_in_one_line, messages, print_table
from balanced_agg.loss.rules import EQUAL_MASS, MODE_KEY, rule_of
from balanced_agg.runs import file_log
from balanced_agg.runs.lock import lock

FAILED, ELSEWHERE = "failed", "runs elsewhere"
# In the folder of every run that a sweep has started: its overrides, whether it has finished, and the seconds that it
# took, over all its starts; a start that was killed together with the sweep is not in them.
RECORD = "sweep.json"
# In the folder of a run, locked by the sweep that runs it: one that is started beside it takes the next run.
LOCK = ".sweep.lock"
# Keys that a sweep sets for each run.
OWN_KEYS = ("aggregation", "run.seed", "run.dir", "run.name", MODE_KEY)
# A file of configs/aggregation, and what its mode may have behind it.
CHOICE = re.compile(r"(?P<name>\w+)(?P<setting>(:[-+.\w]+)?(@[-\w]+)?)")
# One value of these for all runs would put their metrics on top of each other.
PER_RUN_VARIABLES = ("VERL_FILE_LOGGER_PATH", "WANDB_RUN_ID", "WANDB_NAME")


@dataclass(frozen=True)
class PlannedRun:
    """One run of a sweep: its folder, the overrides that all runs share, and the arguments of `balanced-agg train`."""

    folder: Path
    overrides: list[str]
    arguments: list[str]

    @property
    def metrics(self) -> Path:
        return self.folder / "metrics.jsonl"

    @property
    def state(self) -> str:
        """`finished`, `started` (it resumes from its last checkpoint, if it has one) or `new`."""
        if self.read_record().get("finished"):
            return "finished"
        return "started" if self.metrics.exists() else "new"

    def read_record(self) -> dict:
        """What `write_record` wrote; empty before it has. ValueError if the file holds anything else."""
        path = self.folder / RECORD
        if not path.exists():
            return {}
        record = file_log.parse(path.read_bytes())
        valid = isinstance(record, dict) and isinstance(record.get("overrides"), list)
        if not valid or not file_log.is_number(record.get("seconds", 0)):
            raise ValueError(f"{path} is no record of a sweep; delete it, and the run is resumed as one that has none")
        return record

    def write_record(self, finished: bool, seconds: float) -> None:
        record = {"overrides": self.overrides, "finished": finished, "seconds": round(seconds, 1)}
        with atomic_write(self.folder / RECORD) as temporary:
            temporary.write_text(json.dumps(record) + "\n")


def run(
    recipe: str,
    aggregations: Sequence[str],
    seeds: Sequence[int],
    overrides: list[str],
    folder: Path | None,
    out: Path | None,
    ray_address: str | None,
    dry_run: bool,
    as_json: bool,
) -> int:
    """The exit code: 0 if all runs have finished and are compared, 2 for what cannot be a sweep."""
    folder = (folder or root() / "outputs").resolve()
    with errors_in_one_line("sweep", OSError):
        runs = plan_runs(recipe, aggregations, seeds, overrides, folder)
    if dry_run:
        for planned in runs:
            print(f"# {planned.folder.name}: {planned.state}", shlex.join(command(planned, ray_address)), sep="\n")
        return 0
    try:
        outcomes = run_all(runs, ray_address)
    except KeyboardInterrupt:
        messages.print("sweep: interrupted; the same command resumes it")
        return 1
    if not as_json:
        print_table(("run", "outcome", "exit code", "seconds"), outcomes, text_columns=2)
    logged = [str(run.folder) for run in runs if run.metrics.exists() and run.metrics.stat().st_size]
    if not logged:
        messages.print("no run has logged anything to compare")
        return 1
    from balanced_agg.commands.compare.command import run as compare

    compared = compare(logged, out or folder / f"{recipe}-comparison", as_json)
    return 1 if any(outcome in (FAILED, ELSEWHERE) for _, outcome, *_ in outcomes) else compared


def plan_runs(
    recipe: str, aggregations: Sequence[str], seeds: Sequence[int], overrides: list[str], folder: Path
) -> list[PlannedRun]:
    """All aggregations under the first seed, then all under the second, so that an interrupted sweep can be compared.

    The folder of a run has the name that `balanced-agg train` would give it: ``RECIPE-MODE-seedK``.

    ValueError: unknown recipe or aggregation, one named twice, an override or an exported variable that a sweep must
    set for each run by itself, or a folder that holds a run started with other overrides.
    """
    from omegaconf import OmegaConf

    check_recipe_name(recipe)
    choices = sorted(path.stem for path in (CONFIGS / "aggregation").glob("*.yaml"))
    chosen = {name: CHOICE.fullmatch(name) for name in aggregations}
    if unknown := [name for name, match in chosen.items() if match is None or match["name"] not in choices]:
        raise ValueError(
            f"--aggregations {' '.join(unknown)}: there are {', '.join(choices)}, also as NAME:PARAMETER and "
            f"NAME@{EQUAL_MASS}"
        )
    for option, values in (("--aggregations", aggregations), ("--seeds", seeds)):
        if len(set(values)) < len(values):
            raise ValueError(f"{option} {' '.join(map(str, values))}: name each of them once")
    for given in overrides:
        if given.lstrip("+~").partition("=")[0] in OWN_KEYS:
            raise ValueError(f"{given}: a sweep sets this for each run; use --aggregations, --seeds and --dir")
    for variable in PER_RUN_VARIABLES:
        if os.environ.get(variable):
            raise ValueError(f"{variable} is exported and would be shared by all runs; unset it")

    runs = []
    for seed in seeds:
        for name in aggregations:
            file, setting = chosen[name]["name"], chosen[name]["setting"]
            mode = OmegaConf.load(CONFIGS / f"aggregation/{file}.yaml").actor_rollout_ref.actor.loss_agg_mode + setting
            rule_of(mode)  # ValueError for a parameter that its rule does not take
            own = folder / f"{recipe}-{mode}-seed{seed}"
            choice = [f"aggregation={file}", *([f"{MODE_KEY}={mode}"] if setting else [])]
            arguments = [recipe, *choice, f"run.seed={seed}", override("run.dir", own), *overrides]
            runs.append(PlannedRun(own, overrides, arguments))
    for run in runs:
        before = run.read_record().get("overrides", overrides)
        if before != overrides:
            raise ValueError(
                f"{run.folder} was started with the overrides {' '.join(map(str, before)) or '(none)'}, not "
                f"{' '.join(overrides) or '(none)'}; give the same, or --dir another folder, or move it away"
            )
    return runs


def run_all(runs: Sequence[PlannedRun], ray_address: str | None) -> list[tuple[str, ...]]:
    """Run what has not finished, and nobody else runs; of each run its name, its outcome, exit code and seconds.

    KeyboardInterrupt, once the run has ended: Ctrl-C reaches that too, and SIGTERM is passed on to it.
    """
    outcomes = []
    for number, run in enumerate(runs, 1):
        name = run.folder.name
        head = f"[{number}/{len(runs)}] {name}"
        run.folder.mkdir(parents=True, exist_ok=True)
        try:
            lock_file = lock(run.folder / LOCK)
        except BlockingIOError as error:
            messages.print(f"{head}: the sweep of {error.strerror} has it")
            outcomes.append((name, ELSEWHERE, "", ""))
            continue
        try:
            outcomes.append((name, *_run_unless_finished(run, ray_address, head)))
        finally:
            if lock_file is not None:
                os.close(lock_file)
    return outcomes


def _run_unless_finished(run: PlannedRun, ray_address: str | None, head: str) -> tuple[str, str, str]:
    """Outcome, exit code and seconds."""
    before = run.state
    if before == "finished":
        messages.print(f"{head}: finished before")
        return "finished before", "", ""
    messages.print(f"{head}: {'resumes' if before == 'started' else 'starts'}, log in {run.folder}/log.txt")
    start, spent = time.monotonic(), run.read_record().get("seconds", 0)
    run.write_record(finished=False, seconds=spent)
    ended = execute(command(run, ray_address), run.folder, say=lambda line: messages.print(f"  {line}"))
    seconds = time.monotonic() - start
    run.write_record(finished=ended.status == 0, seconds=spent + seconds)
    if ended.interrupted:
        raise KeyboardInterrupt
    if ended.status:
        log = run.folder / "log.txt"
        messages.print(f"{head}: failed with exit code {ended.status}; the end of its log:\n{last_lines(log, 8)}")
    return FAILED if ended.status else "finished", str(ended.status), f"{seconds:.0f}"


def command(run: PlannedRun, ray_address: str | None) -> list[str]:
    """What starts the run: on this machine, or on a Ray cluster."""
    how = ["train"] if ray_address is None else ["submit", "--ray-address", ray_address]
    return [sys.executable, "-m", "balanced_agg", *how, *run.arguments]
