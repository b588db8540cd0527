"""A lock on a folder, which one process at a time has, until it ends, however it ends."""

import fcntl
import os
import socket
from pathlib import Path


def lock(path: Path) -> int | None:
    """Lock a file, which is made if need be and stays; it says which process on which host had it last.

    Returns:
        Its descriptor, which no program that this process starts inherits: the lock lasts until it is closed, at the
        latest by the end of this process. None on a file system without locks.

    Raises:
        BlockingIOError: another process has it, or another descriptor of this one; ``strerror`` says who.
        OSError: the file cannot be written.
    """
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.read(file, 200).decode(errors="replace").strip()
        os.close(file)
        raise BlockingIOError(error.errno, holder or "another process", os.fspath(path)) from None
    except OSError:
        os.close(file)
        return None
    os.ftruncate(file, 0)
    os.write(file, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
    return file
