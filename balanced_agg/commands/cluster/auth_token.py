"""The token that lets a process join a Ray cluster or submit to it, handed over in a file that only its owner reads.

Ray takes it from ``RAY_AUTH_TOKEN``, else from the file that ``RAY_AUTH_TOKEN_PATH`` names, else from
``~/.ray/auth_token``. https://docs.ray.io/en/latest/ray-security/token-auth.html
"""

import os
import secrets
from pathlib import Path

from balanced_agg.atomic_write import atomic_write

RAY = ("gcs_server", "raylet")


def token_file() -> Path:
    """Where Ray looks for the token."""
    named = os.environ.get("RAY_AUTH_TOKEN_PATH")
    return (Path(named) if named else Path.home() / ".ray/auth_token").absolute()


def create() -> Path:
    """Write a new token of 256 bits where there is none, or one that others can read; returns its file.

    One that others can read stays while a Ray of this user runs on this machine: its processes would no longer know
    each other.
    """
    file = token_file()
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if file.exists() and file.stat().st_size and (not others_can_read(file) or ray_runs()):
        return file
    with atomic_write(file) as temporary:
        temporary.touch(mode=0o600, exist_ok=False)
        temporary.write_text(secrets.token_hex(32))
    return file


def others_can_read(file: Path) -> bool:
    return bool(file.stat().st_mode & 0o077)


def ray_runs() -> bool:
    """Whether a Ray of this user runs on this machine."""
    import psutil

    processes = psutil.process_iter(["name", "uids"])
    return any(found.info["name"] in RAY and found.info["uids"].real == os.getuid() for found in processes)


def require() -> Path:
    """The file of a token that no one but its owner can read; Ray is told to ask for it.

    ValueError: authentication is switched off, or the file is missing, empty or open to others.
    """
    mode = os.environ.setdefault("RAY_AUTH_MODE", "token")
    if mode != "token":
        raise ValueError(f"RAY_AUTH_MODE={mode} lets anyone run code on the cluster; unset it")
    file = token_file()
    if not file.is_file():
        raise ValueError(
            f"{file}, which should hold the cluster's token, does not exist; copy it from the head "
            f"(`install -m 600`), or name another file with RAY_AUTH_TOKEN_PATH"
        )
    if others_can_read(file):
        mode = file.stat().st_mode & 0o777
        raise ValueError(f"{file} has mode {mode:o}, so that others can read the token; chmod 600 it")
    if file.stat().st_size == 0:
        raise ValueError(f"{file} is empty; copy the cluster's token from the head")
    return file
