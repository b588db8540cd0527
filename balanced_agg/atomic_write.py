"""Atomic writes: files and folders that appear complete or not at all."""

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """A path beside `path`, for a file or a folder that takes its place when the block ends, and is gone if it fails.

    The folder above is made if it is missing. A file is replaced in one step. An old folder is moved away first; it is
    moved back where the new one cannot take its place, and deleted only when it has.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    mark = uuid.uuid4().hex
    temporary, old = (path.with_name(f".{path.name}.{mark}.{end}") for end in ("tmp", "old"))
    try:
        yield temporary
        if temporary.is_dir() and path.exists():
            path.rename(old)
        try:
            temporary.replace(path)
        except BaseException:
            if old.exists():
                old.rename(path)
            raise
        _remove(old)
    finally:
        _remove(temporary)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
