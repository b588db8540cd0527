"""Hydra overrides, KEY=VALUE on a command line: the one place that quotes a value, and reads one.

Hydra's grammar has its own meaning for ``,()[]{}=:'"``, spaces at the ends and backslashes, and knows no letter outside
of ASCII. Any of these may be in a path.
"""

import os
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any


def override(key: str, value: str | Path) -> str:
    """``KEY=VALUE`` for a string that is to arrive as it is; quoted where Hydra would read something else."""
    from hydra.core.override_parser.types import Quote, QuotedString

    # OmegaConf would look for what stands in ${…}; a backslash in front, itself unescaped, keeps it from that.
    text = re.sub(r"(\\*)\$\{", r"\1\1\\${", str(value))
    plain = f"{key}={text}"
    with suppress(ValueError):
        if value_of(plain) == text:
            return plain
    return f"{key}={QuotedString(text, Quote.single).with_quotes()}"


def value_of(override: str) -> Any:
    """The value of an override, as Hydra reads it. ValueError where it cannot, and for ``a=1,2`` of a multirun."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        parsed = OverridesParser.create().parse_override(override)
    except HydraException as error:
        raise ValueError(f"{override}: {error}") from None
    if parsed.is_sweep_override():
        raise ValueError(f"{override} has several values")
    return parsed.value()


def quote_paths(arguments: Sequence[str], folder: Path) -> list[str]:
    """The arguments of a run, with those values quoted that Hydra cannot read and that are paths.

    A path begins with ``/`` or names what exists, from `folder` where it is relative. What else Hydra cannot read stays
    as it is, for Hydra to say why; so do its own options, and all of a multirun.
    """
    if {"-m", "--multirun"} & {*arguments}:
        return list(arguments)
    return [_quote_path(argument, folder) for argument in arguments]


def _quote_path(argument: str, folder: Path) -> str:
    key, _, value = argument.partition("=")
    is_path = value.startswith("/") or (value and os.path.exists(folder / value))  # noqa: PTH110 (False for any error)
    if argument.startswith("-") or not is_path:
        return argument
    try:
        value_of(argument)
    except ValueError:
        return override(key, value)
    return argument
