"""A wrong command, run as a user would run it: what it says, when, and whether Ray had been started by then."""

import os
import re
import signal
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from tests.end_to_end.launch import DEADLINE, ROOT, processes_of, wait_for_end
from tests.tools.misuse import Case, prepare

# The first line of a message: an exception, what Hydra says without one, a command's own.
MESSAGE = re.compile(
    r"^(?:[\w.]*(?:Error|Exception): "
    r"|Could not override |In '.*': Could not find |Error in call to target "
    r"|unknown data set "
    r"|(?:[\w./ -]+: )?error: |balanced-agg \w+: (?!waiting))",
    re.MULTILINE | re.IGNORECASE,
)
RAY_STARTS = re.compile("ray init kwargs|Started a local Ray instance|Ray runtime started")
POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Attempt:
    """Attributes:
    says: what the message must contain.
    messages: their text.
    seconds: until the first one appeared; of the whole attempt if none did.
    ray_started: whether the log says so.
    exit_code: None if it had to be ended.
    leftover: processes that outlived it.
    """

    says: str
    messages: list[str]
    seconds: float
    ray_started: bool
    exit_code: int | None
    leftover: list[int]
    log: str

    @property
    def wrong(self) -> str:
        """What is wrong with it, where one message with these words was due before Ray; "" if nothing is."""
        if len(self.messages) != 1:
            return f"{len(self.messages)} messages"
        if self.says not in self.messages[0]:
            return f"it does not say {self.says}"
        if self.ray_started:
            return "Ray was started"
        if self.exit_code is None:
            return "it did not end"
        return "" if self.exit_code else "it succeeded"


def attempt(case: Case, good: Path, folder: Path, deadline: float = DEADLINE) -> Attempt:
    """Run the case in an empty folder, with copies of the good inputs, and end every process that it started."""
    case = prepare(case, good, folder)
    mark = uuid.uuid4().hex
    # No cluster and no platform of this machine, so that the case alone decides.
    inherited = {key: value for key, value in os.environ.items() if key not in ("RAY_ADDRESS", "WANDB_MODE")}
    given = {"VERL_PLATFORM": "cpu", "RAY_TMPDIR": str(folder / "tmp"), "PYTHONPATH": str(ROOT)} | case.environment
    environment = inherited | given | {"BALANCED_AGG_TEST_RUN": mark}
    environment = {key: value for key, value in environment.items() if value is not None}
    script, *arguments = case.command
    program = ["bash", str(ROOT / script)] if script.endswith(".sh") else [sys.executable, "-m", script]
    log_path = folder / "log.txt"
    start, appeared = time.monotonic(), None
    with log_path.open("w") as log:
        process = subprocess.Popen(
            [*program, *arguments], cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT
        )
        while time.monotonic() < start + deadline:
            ended = ends_within(process, POLL_SECONDS)
            if appeared is None and MESSAGE.search(log_path.read_text()):
                appeared = time.monotonic() - start
            if ended:
                break
        exit_code = process.returncode
        leftover = wait_for_end(mark) if exit_code is not None else []
        for pid in processes_of(mark):
            os.kill(pid, signal.SIGKILL)
        process.wait()
    text = log_path.read_text()
    seconds = time.monotonic() - start if appeared is None else appeared
    return Attempt(case.says, messages(text), seconds, bool(RAY_STARTS.search(text)), exit_code, leftover, text)


def ends_within(process: subprocess.Popen, seconds: float) -> bool:
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def messages(log: str) -> list[str]:
    """Each message of a log in one line: up to an empty line, or to the next one."""
    starts = [found.start() for found in MESSAGE.finditer(log)]
    return [" ".join(log[a:b].split("\n\n")[0].split()) for a, b in pairwise([*starts, len(log)])]
