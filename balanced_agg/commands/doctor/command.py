"""`balanced-agg doctor [RECIPE] [overrides…]`: ask a process of its own, and print what it says."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict

from rich.text import Text

from balanced_agg.commands import train
from balanced_agg.commands.doctor.check import FAIL, OK, WARN, Check, DoesNotCompose
from balanced_agg.commands.recipes import check_recipe_name, root
from balanced_agg.commands.terminal import errors_in_one_line, messages, print_json, print_lines, print_table, results

COLOURS = {OK: "green", WARN: "yellow", FAIL: "bold red"}
SECONDS = 180  # importing verl takes 5 to 10 on a slow machine, more beside a run


def run(recipe: str | None, overrides: Sequence[str], as_json: bool) -> int:
    """Print the report; the exit code is 1 with a failure, 2 for a recipe that is none or does not compose."""
    with errors_in_one_line("doctor"):
        if recipe:
            check_recipe_name(recipe)
        if not root().is_dir():
            raise ValueError(f"{root()} is no folder; make it, or set BALANCED_AGG_ROOT to one")
        with messages.status("importing verl, asking Ray and wandb"):
            checks = judge([recipe, *overrides] if recipe else [])
    if as_json:
        print_json([asdict(check) | {"status": check.status.lower()} for check in checks])
    else:
        report(checks)
    return int(any(check.status == FAIL for check in checks))


def judge(arguments: Sequence[str]) -> list[Check]:
    """Run __main__.py in the environment and the folder of a run: its lines, and one on its end if it crashed.

    DoesNotCompose if the recipe does not compose.
    """
    command = [sys.executable, "-m", "balanced_agg.commands.doctor", *arguments]
    options = {"env": train.environment(os.environ), "cwd": root(), "stdin": subprocess.DEVNULL}
    ended = None
    try:
        done = subprocess.run(command, timeout=SECONDS, capture_output=True, **options)
    except subprocess.TimeoutExpired as error:
        done, ended = error, f"no answer within {SECONDS} s"
    else:
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip().splitlines() or ["no output"]
            ended = f"the process ended with exit status {done.returncode}: {said[-1]}"
    lines = [json.loads(line) for line in (done.stdout or b"").splitlines()]
    if lines and "usage_error" in lines[-1]:
        raise DoesNotCompose(lines[-1]["usage_error"])
    checks = [Check(**line) for line in lines]
    return [*checks, Check("doctor", FAIL, ended, "see the last lines above")] if ended else checks


def report(checks: Sequence[Check]) -> None:
    """Print a line for each check; its remedy follows an arrow, on a terminal on the next line."""
    arrow = "\n→" if results.is_terminal else " ->"
    rows = []
    for check in checks:
        found = Text(check.detail)
        if check.remedy:
            found.append(f"{arrow} {check.remedy}", style=COLOURS[check.status] if check.status != OK else "dim")
        rows.append((Text(check.status, style=COLOURS[check.status]), check.check, found))
    print_table((), rows, text_columns=3)
    print_lines([", ".join(f"{sum(check.status == status for check in checks)} {status}" for status in COLOURS)])
