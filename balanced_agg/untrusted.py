"""What somebody else wrote, read as data: a downloaded run's config, its logs, its names, a data set.

Nothing in it reaches beyond itself: interpolations find keys of the same config and no environment variable, file or
resolver; no tag makes an object. Time and memory are bounded by the size of the file.
"""

import json
import os
import re
import resource
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

MOST_BYTES = 2**19  # of a config; verl's is 37 kB
DEEPEST = 100  # containers in one another; Python's own functions give up at some hundreds
TOO_DEEP = "it is nested too deeply"
TOO_LARGE = "it takes far more memory than a file of its size should"
MOST_MEMORY, MEMORY_FOR_A_BYTE = 2 * 2**30, 8  # bytes to read any file, and more for each byte of it
LONGEST_NUMBER = 320  # characters, which a float's whole part may have
LONGEST_TEXT = 10_000  # characters of a value whose interpolations are resolved
MOST_INTERPOLATIONS = 100  # in one value, one after another
# The innermost one in a text. A resolver's has a colon, a relative key begins with a dot: neither is a key.
_INTERPOLATION = re.compile(r"\$\{([^${}:.][^${}:]*)\}")


class Unreadable(ValueError):
    """What a run has left in a file is not what its writer writes; the message is one line and names the file."""


def shown(text: Any, keep: str = "") -> str:
    r"""The text with what is not printable as an escape (\x1b, \u202e, \n), but for the characters to `keep`.

    That is all that a terminal obeys, and all that reorders or hides text: control characters, bidirectional and other
    format characters, separators other than a space, halves of surrogate pairs.
    """
    text = str(text)
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() or char in keep else char.encode("unicode_escape").decode() for char in text
    )


def opened(path: Path) -> BinaryIO:
    """A regular file to be read. Others, such as a FIFO, may never end; Unreadable for those, and without access."""
    try:
        file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))  # noqa: SIM115
    except OSError as error:
        raise Unreadable(f"{path} cannot be read: {error.strerror}") from None
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise Unreadable(f"{path} cannot be read: it is no regular file")
    return file


def read_json(path: Path) -> Any:
    """The JSON of a file. Unreadable for anything else."""
    with opened(path) as file:
        text = file.read()
    try:
        return parse_json(text)
    except ValueError as error:
        raise Unreadable(f"{path} cannot be read: {error if text.strip() else 'it is empty'}") from None


def parse_json(text: str | bytes) -> Any:
    """ValueError for what is no JSON, or more than DEEPEST lists and objects in one another."""
    try:
        data = json.loads(text)
    except RecursionError:
        raise ValueError(TOO_DEEP) from None
    check_depth(data)
    return data


def check_depth(data: Any) -> None:
    """ValueError for more than DEEPEST lists and dictionaries in one another."""
    level = [data]
    for _ in range(DEEPEST):
        level = [child for value in level if isinstance(value, dict | list) for child in _children(value)]
        if not level:
            return
    raise ValueError(TOO_DEEP)


def _children(container: dict | list) -> Any:
    return container.values() if isinstance(container, dict) else container


@contextmanager
def bounded_memory(files: Iterable[Path]) -> Iterator[None]:
    """Let this process have as much more memory as reading the files can take: MemoryError beyond, on Linux.

    A file of kilobytes may hold a text of gigabytes many times.
    """
    limit = MOST_MEMORY + MEMORY_FOR_A_BYTE * sum(file.stat().st_size for file in files)
    before = resource.getrlimit(resource.RLIMIT_DATA)
    with suppress(OSError):  # without Linux' /proc
        used = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_DATA, (_least(used + limit, *before), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


def _least(*limits: int) -> int:
    return min((limit for limit in limits if limit != resource.RLIM_INFINITY), default=resource.RLIM_INFINITY)


def read_yaml(path: Path) -> Any:
    """The plain containers of a YAML file, interpolations as written (`select` resolves them); None for an empty file.

    Unreadable for aliases, which grow without bounds, and which Hydra never writes; for a key twice; for tags that are
    not YAML's own; for more than MOST_BYTES or DEEPEST.
    """
    import yaml

    with opened(path) as file:
        text = file.read(MOST_BYTES + 1)
    try:
        if len(text) > MOST_BYTES:
            raise ValueError(f"it has more than {MOST_BYTES} bytes")
        loader = _loader()
        depth = 0
        for event in yaml.parse(text, loader):
            if isinstance(event, yaml.AliasEvent):
                raise ValueError(f"line {event.start_mark.line + 1} has an alias")
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > DEEPEST:
                raise ValueError(f"line {event.start_mark.line + 1} is nested too deeply")
        return yaml.load(text, loader)
    except Exception as error:  # of YAML, and of its constructors by what a tag is put on
        context, problem, mark = (getattr(error, name, None) for name in ("context", "problem", "problem_mark"))
        line = f"line {mark.line + 1}" if mark else None
        what = ", ".join(filter(None, (context, problem, line))) or str(error).partition("\n")[0]
        raise Unreadable(f"{path} cannot be read: {what}") from None


def _loader() -> type:
    import yaml

    class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
            keys = [key.value for key, _ in node.value if isinstance(key.value, str)]
            if len(set(keys)) < len(keys):
                raise yaml.constructor.ConstructorError(None, None, "a key stands there twice", node.start_mark)
            return super().construct_mapping(node, deep)

        def construct_number(self, node: Any) -> int | float | str:
            # YAML's numbers to base 60 take quadratic time, and Python prints no longer ones.
            if len(node.value) > LONGEST_NUMBER or ":" in node.value:
                return node.value
            return self.construct_yaml_float(node) if node.tag.endswith("float") else self.construct_yaml_int(node)

    for kind in ("int", "float"):
        Loader.add_constructor(f"tag:yaml.org,2002:{kind}", Loader.construct_number)
    # 1e-5 is a number to Hydra, and to YAML from 1.2 on.
    number = re.compile(r"[-+]?\d+[eE][-+]?\d+$", re.ASCII)
    Loader.add_implicit_resolver("tag:yaml.org,2002:float", number, list("-+0123456789"))
    return Loader


def select(config: Any, key: str) -> Any:
    """The value at a dotted key with its interpolations resolved, also those in a list's elements.

    None if it is missing, or if an interpolation finds no key of this config: one to the environment, to a resolver,
    to a relative key, to itself.
    """
    value = _resolved(config, _at(config, key))
    return [_resolved(config, element) for element in value] if isinstance(value, list) else value


def interpolated(config: Any, *keys: str) -> list[tuple[str, str]]:
    """Those of the keys whose value is an interpolation that `select` does not resolve, with its text."""
    texts = ((key, _at(config, key)) for key in keys)
    return [
        (key, value) for key, value in texts if isinstance(value, str) and "${" in value and select(config, key) is None
    ]


def _resolved(config: Any, value: Any) -> Any:
    for _ in range(MOST_INTERPOLATIONS):
        if not isinstance(value, str) or "${" not in value:
            return value
        found = _INTERPOLATION.search(value)
        if not found or len(value) > LONGEST_TEXT:
            return None
        target = _at(config, found[1])
        if found[0] == value:
            value = target
        elif target is None or isinstance(target, dict | list):
            return None
        else:
            value = value[: found.start()] + str(target) + value[found.end() :]
    return None


def _at(config: Any, key: str) -> Any:
    for part in key.split("."):
        config = config.get(part) if isinstance(config, dict) else None
    return None if config == "???" else config  # OmegaConf's mark of a value that is still to be set
