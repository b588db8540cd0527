"""A lock ends with the process that has it, and with nothing else."""

import os
import signal
import subprocess
import sys

import pytest

from balanced_agg.runs.lock import lock

HOLDER = """
import subprocess, sys
from pathlib import Path
from balanced_agg.runs.lock import lock
lock(Path(sys.argv[1]))
print(subprocess.Popen(["sleep", "600"], stdout=subprocess.DEVNULL).pid, flush=True)
sys.stdin.read()
"""


def test_a_killed_process_has_no_lock_though_what_it_started_lives_on(tmp_path):
    path = tmp_path / "lock"
    command = [sys.executable, "-c", HOLDER, path]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        child = int(holder.stdout.readline())
        try:
            with pytest.raises(BlockingIOError, match=f"process {holder.pid} on "):
                lock(path)
            holder.kill()
            holder.wait()
            os.kill(child, 0)  # it is there
            os.close(lock(path))
        finally:
            os.kill(child, signal.SIGKILL)


def test_a_lock_that_was_refused_leaves_the_holders_name(tmp_path):
    held = lock(tmp_path / "lock")
    for _ in range(2):
        with pytest.raises(BlockingIOError, match=f"process {os.getpid()} on "):
            lock(tmp_path / "lock")
    os.close(held)


def test_a_place_that_cannot_be_written_is_another_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        lock(tmp_path / "nowhere/lock")
