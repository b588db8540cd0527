"""verl's keys of the rows of a rollout, ``{prompt}_{session}_{output}``, and which rows are padding.

A session, one run of the agent loop, is one response to a prompt. It may leave several rows, its outputs, which share
one advantage; the last one has the score. The prompt part is drawn for every prompt of a step: it names the group.
"""

import re
from typing import Any, NamedTuple

_KEY = re.compile(r"((.+)_\d+)_(\d+)")
_PADDING = re.compile(r"pad[0-9a-f]{32}_\d+_\d+")


class Key(NamedTuple):
    """Attributes:
    group: the prompt part.
    session: prompt and session part, which name a response.
    output: place of the row in its session.
    """

    group: str
    session: str
    output: int


def parse(key: str) -> Key | None:
    """The parts of a key; None for what is no key of verl's."""
    match = _KEY.fullmatch(key)
    return Key(match[2], match[1], int(match[3])) if match else None


def is_padding(key: str) -> bool:
    """Whether verl added the row so that a batch can be divided among ranks (its padding_utils.py)."""
    return _PADDING.fullmatch(key) is not None


def without_padding(batch: Any) -> list[str]:
    """The keys of a batch in verl's TransferQueue without its padding rows, which are tagged there."""
    return [key for key, tag in zip(batch.keys, batch.tags, strict=True) if not tag.get("is_padding", False)]
