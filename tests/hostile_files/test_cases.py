"""Hostile files (cases.py) as a user meets them, each read by the command that reads such files.

Whatever the file: the command ends by itself, in bounded time and memory; with the exit status and the words that are
due, on one line where it is refused; nothing in the file is executed, nothing of the environment is shown or written,
and no character reaches the terminal that it would obey.
"""

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.composed import ROOT
from tests.hostile_files.cases import CASES, Case

SECRET = "5ecret0f7heEnvironment"
SECONDS = 90  # most take 1 to 3; machines stall
POLL_SECONDS = 0.02
BYTES = 3.5 * 2**30
# What rich writes on a terminal: colours, and in progress bars moves of the cursor.
RICH = re.compile(r"\x1b\[[\d;?]*[A-Za-z]")


def start(case: Case, folder: Path, stdout: int, stderr: int, **exported: str) -> subprocess.Popen:
    ours = {"WANDB_API_KEY": SECRET, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    program = [sys.executable] if case.command[0].startswith("-") else [sys.executable, "-m", "balanced_agg"]
    return subprocess.Popen(
        [*program, *case.command],
        cwd=folder,
        env=os.environ | ours | exported,
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        start_new_session=True,
    )


def run(case: Case, folder: Path) -> tuple[int, str, str, float]:
    """The command's exit status, stdout and stderr, and the memory of its largest process in bytes."""
    with (folder / "stdout").open("w+b") as out, (folder / "stderr").open("w+b") as err:
        process, deadline = start(case, folder, out.fileno(), err.fileno()), time.monotonic() + SECONDS
        while not (ended := os.wait4(process.pid, os.WNOHANG))[0]:
            if time.monotonic() > deadline:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                pytest.fail(f"it takes more than {SECONDS} s")
            time.sleep(POLL_SECONDS)
        process.returncode = os.waitstatus_to_exitcode(ended[1])
        out.seek(0), err.seek(0)
        return process.returncode, out.read().decode(), err.read().decode(), ended[2].ru_maxrss * 1024


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, marks=pytest.mark.slow if case.in_ci else pytest.mark.evidence) for case in CASES],
    ids=lambda case: case.name,
)
def test_a_hostile_file_is_named_and_nothing_else_happens(case, tmp_path):
    case.make(tmp_path)
    status, out, err, memory = run(case, tmp_path)
    said = out + err
    assert status == case.status, said
    assert case.says in said
    assert "Traceback" not in said
    if status and case.command[0] != "follow":
        *before, line = (line for line in err.splitlines() if not line.startswith("evaluating "))
        assert case.says in line and (case.logged or not before)
    assert all(char.isprintable() or char in "\n\r"[: 1 + case.logged] for char in said)  # verl has progress bars
    assert memory < BYTES
    assert not (tmp_path / "executed").exists()
    assert SECRET not in said
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [path for path in written if SECRET.encode() in path.read_bytes()]


ON_A_TERMINAL = [
    case for case in CASES if "escapes" in case.name and case.command[0] in ("compare", "follow", "prepare")
]


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, marks=pytest.mark.slow if case.in_ci else pytest.mark.evidence) for case in ON_A_TERMINAL],
    ids=lambda case: case.name,
)
def test_a_terminal_obeys_nothing_in_a_hostile_file(case, tmp_path):
    case.make(tmp_path)
    controller, terminal = os.openpty()
    process = start(case, tmp_path, terminal, terminal, TERM="xterm-256color", COLUMNS="1000")
    os.close(terminal)
    said = b""
    with suppress(OSError):  # at the end
        while part := os.read(controller, 2**16):
            said += part
    os.close(controller)
    assert process.wait() == case.status
    text = RICH.sub("", said.decode())
    assert r"\x" in text or r"\u" in text
    assert all(char.isprintable() or char in "\r\n" for char in text)


def test_a_tenth_of_the_cases_is_in_ci():
    in_ci = sum(case.in_ci for case in CASES)
    assert len({case.name for case in CASES}) == len(CASES)
    assert len(CASES) <= 10 * in_ci <= 1.5 * len(CASES)
