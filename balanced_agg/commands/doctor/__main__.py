"""Judge this machine, and write the lines to stdout as they come: a JSON object each.

``python -m balanced_agg.commands.doctor [RECIPE OVERRIDES…]``, in the environment of a run. verl is imported here,
which may raise, crash or hang; what was written before counts.
"""

import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict

from balanced_agg.commands.doctor.check import FAIL, OK, Check, DoesNotCompose, described
from balanced_agg.commands.doctor.versions import check_versions


def judged(name: str | None, overrides: Sequence[str]) -> Iterator[Check]:
    """Yield the lines of the report. DoesNotCompose if the recipe does not compose."""
    yield from check_versions()
    try:
        import verl  # noqa: F401

        from balanced_agg.commands.doctor import machine, recipe_lines, verl_lines
        from balanced_agg.commands.doctor.recipe import Recipe, examine
    except Exception as error:  # whatever a broken installation raises
        remedy = "see the versions above; try: python -c 'import verl'. The rest can be checked once that works"
        yield Check("verl", FAIL, f"cannot be imported: {described(error)}", remedy)
        return
    plugin, recipe = verl_lines.check_plugin(), Recipe()
    yield plugin
    if plugin.status == OK:  # else what verl makes of a recipe says nothing
        recipe = examine(name, overrides) if name else recipe
        yield from verl_lines.check_packages(recipe)
        yield from verl_lines.check_devices(recipe)
    yield from machine.check_machine(recipe)
    yield from recipe_lines.check_recipe(recipe)


def main(name: str | None = None, *overrides: str) -> None:
    lines = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # libraries print whatever they like to stdout
    try:
        for check in judged(name, overrides):
            lines.write(json.dumps(asdict(check)) + "\n")
    except DoesNotCompose as error:
        lines.write(json.dumps({"usage_error": str(error)}) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
