"""`balanced-agg doctor [RECIPE] [overrides…]`: gather, judge, print."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict

from rich.text import Text

from balanced_agg.commands.doctor.check import FAIL, OK, WARN, Check
from balanced_agg.commands.doctor.facts import Facts, gather
from balanced_agg.commands.doctor.machine import check_machine
from balanced_agg.commands.doctor.recipe_lines import check_recipe
from balanced_agg.commands.doctor.services import check_services
from balanced_agg.commands.doctor.verl_lines import check_verl
from balanced_agg.commands.doctor.versions import check_versions
from balanced_agg.commands.recipes import check_recipe_name
from balanced_agg.commands.terminal import messages, print_lines, print_table, results

COLOURS = {OK: "green", WARN: "yellow", FAIL: "bold red"}


def run(recipe: str | None, overrides: Sequence[str], as_json: bool) -> int:
    """Print the report; 0 without a failure, 1 with one, 2 for a recipe that is none or does not compose."""
    if recipe:
        try:
            check_recipe_name(recipe)
        except ValueError as error:
            return usage_error(str(error))

    with messages.status("importing verl, asking Ray and wandb"):
        facts = gather(recipe, overrides)
        if why := facts.verl.get("recipe", {}).get("usage_error"):
            return usage_error(f"{recipe} does not compose: {why}")
        checks = list(judged(facts, recipe))
    if as_json:
        print(json.dumps([asdict(check) | {"status": check.status.lower()} for check in checks], indent=2))
    else:
        report(checks)
    return int(any(check.status == FAIL for check in checks))


def judged(facts: Facts, recipe: str | None) -> Iterator[Check]:
    yield from check_versions("cpu" if facts.on_cpu else "gpu")
    yield from check_verl(facts)
    yield from check_machine(facts)
    yield from check_services(facts)
    if recipe:
        yield from check_recipe(facts, recipe)


def usage_error(message: str) -> int:
    messages.print(f"balanced-agg doctor: {message}", markup=False)
    return 2


def report(checks: Sequence[Check]) -> None:
    """A line a check with its remedy behind an arrow, which has a line of its own on a terminal."""
    arrow = "\n→" if results.is_terminal else " ->"
    rows = []
    for check in checks:
        found = Text(check.detail)
        if check.remedy:
            found.append(f"{arrow} {check.remedy}", style=COLOURS[check.status] if check.status != OK else "dim")
        rows.append((Text(check.status, style=COLOURS[check.status]), check.check, found))
    print_table((), rows, text_columns=3)
    print_lines([", ".join(f"{sum(check.status == status for check in checks)} {status}" for status in COLOURS)])
