"""Where a program may run: one program at a time on each core, counted over all processes of this user.

A core is taken by a lock on a file. The folder of these files has a name that can be guessed, beside those of other
users: it is used only if it is this user's alone, no link in it is followed, and no file in it is read or written.
"""

import fcntl
import os
import random
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TypeVar

from balanced_agg.rewards.errors import GraderFailed

POLL_SECONDS = 0.02  # between two looks at what others hold

T = TypeVar("T")
_line = threading.Lock()


@contextmanager
def place(deadline: float) -> Iterator[int]:
    """Hold one of the cores that this process may use, whose number it yields.

    One thread of a process waits for it and the others stand in line behind it; one process, too: who has just given a
    core back does not get the next one while others wait.
    GraderFailed if none is free by `deadline`, in seconds of `time.monotonic`; ValueError if the folder of the locks is
    not this user's alone.
    """
    taken = None
    if _line.acquire(timeout=max(0.0, deadline - time.monotonic())):
        try:
            if line := _wait_for(lambda: _lock("line"), deadline):
                with line:
                    taken = _wait_for(_free_core, deadline)
        finally:
            _line.release()
    if not taken:
        raise GraderFailed("no sandbox was free in time: fewer programs must be graded at once (reward.num_workers)")
    core, lock = taken
    with lock:
        yield core


def check_places() -> None:
    """ValueError, with the path, if the folder of the locks is not this user's alone."""
    os.close(_folder())


def _wait_for(look: Callable[[], T | None], deadline: float) -> T | None:
    """What `look` returns as soon as that is something; None if it is nothing at the deadline."""
    while not (found := look()) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    return found


def _free_core() -> tuple[int, IO[bytes]] | None:
    cores = list(os.sched_getaffinity(0))
    random.shuffle(cores)
    return next(((core, lock) for core in cores if (lock := _lock(str(core)))), None)


def _lock(name: str) -> IO[bytes] | None:
    """A file, locked until it is closed; None if somebody has locked it."""
    folder = _folder()
    try:
        # A FIFO is opened without waiting for its other end.
        how = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
        file = os.fdopen(os.open(name, how, 0o600, dir_fd=folder), "r+b", buffering=0)
    except OSError as error:
        raise ValueError(f"{_path() / name} is no file to lock ({error.strerror}): delete it") from error
    finally:
        os.close(folder)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file


def _path() -> Path:
    return Path(tempfile.gettempdir(), f"balanced_agg_sandboxes_{os.geteuid()}")


def _folder() -> int:
    """A descriptor of the folder of the locks, which is made if need be. ValueError if it is not this user's alone."""
    path = _path()
    remedy = "delete it or have it deleted, or set TMPDIR to a folder of your own"
    with suppress(FileExistsError):
        path.mkdir(mode=0o700)
    try:
        folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError as error:
        raise ValueError(f"{path} is no folder of this user's ({error.strerror}): {remedy}") from error
    status = os.fstat(folder)
    if status.st_uid != os.geteuid() or status.st_mode & 0o077:
        os.close(folder)
        whose = f"belongs to user {status.st_uid} with mode {status.st_mode & 0o7777:o}"
        raise ValueError(f"{path} {whose}, and must be this user's alone (mode 700): {remedy}")
    return folder
