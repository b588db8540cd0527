"""Atomic writes: files and folders that appear complete or not at all."""

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """A path beside `path`, for a file or a folder that takes its place when the block ends, and is gone if it fails.

    The folder above is made if it is missing. A file is replaced in one step, an old folder is moved away first.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    mark = uuid.uuid4().hex
    unfinished, replaced = (path.with_name(f".{path.name}.{mark}.{end}") for end in ("unfinished", "replaced"))
    try:
        yield unfinished
        if unfinished.is_dir() and path.exists():
            path.rename(replaced)
        unfinished.replace(path)
    finally:
        for leftover in (unfinished, replaced):
            if leftover.is_dir():
                shutil.rmtree(leftover)
            leftover.unlink(missing_ok=True)
