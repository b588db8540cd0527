"""Run scripts/train.sh as a user would, with a log, a deadline and nothing left behind."""

import json
import os
import signal
import subprocess
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
# No claim, but the end of a run that hangs: ten times what the slowest takes, so that a slow machine fails nothing.
DEADLINE = 1200  # seconds
GRACE_SECONDS = 60  # Ray's daemons notice the end of their driver by themselves
SWITCHES = ("BALANCED_AGG_CHECKS", "BALANCED_AGG_GUARD")
SMALL = [
    "data.train_batch_size=4",
    "actor_rollout_ref.actor.ppo_mini_batch_size=4",
    "actor_rollout_ref.actor.use_dynamic_bsz=false",
    "actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=4",
    "actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu=4",
    "trainer.test_freq=-1",
    "trainer.val_before_train=false",
    "trainer.logger=[console,file]",
    # The recorded batch is filed under these names.
    "trainer.project_name=test",
    "trainer.experiment_name=test",
]


@dataclass
class Run:
    returncode: int
    log: str
    dir: Path
    leftover: list[int]  # processes that outlived the command by GRACE_SECONDS
    ended_at: float  # seconds since 1970

    @property
    def steps(self) -> dict[int, dict[str, float]]:
        """Logged metrics by step."""
        lines = (self.dir / "metrics.jsonl").read_text().splitlines()
        return {record["step"]: record["data"] for record in map(json.loads, lines)}


def train(recipe: str, run_dir: Path, *overrides: str, **options: Any) -> Run:
    """Train, wait at most ``deadline`` seconds, and end every process the run started.

    Raises:
        subprocess.TimeoutExpired: with the end of the log, when the run did not end by itself.
    """
    return launch(run_dir, "scripts/train.sh", recipe, f"run.dir={run_dir}", *overrides, **options)


def launch(
    run_dir: Path, script: str, *arguments: str, deadline: float = DEADLINE, environment: dict | None = None
) -> Run:
    """Run a script of the project as :func:`train` does, with its log in ``run_dir``."""
    ours = {name: value for name, value in os.environ.items() if name not in SWITCHES}  # tests/conftest.py sets them
    env = ours | {"PYTHONPATH": str(ROOT)} | (environment or {})
    return watch(run_dir, ["bash", str(ROOT / script), *arguments], ROOT, env, deadline)


def watch(
    run_dir: Path, command: list[str], folder: Path, environment: dict[str, str], deadline: float = DEADLINE
) -> Run:
    """Run a command in ``folder`` as :func:`train` does, with its log in ``run_dir``."""
    run_dir.mkdir(parents=True, exist_ok=True)
    mark = uuid.uuid4().hex
    environment = environment | {"BALANCED_AGG_TEST_RUN": mark}
    log_path = run_dir / "log.txt"
    with log_path.open("w") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT)
        leftover = []
        try:
            returncode = process.wait(timeout=deadline)
            ended_at = time.time()
            leftover = wait_for_end(mark)
        except subprocess.TimeoutExpired as expired:
            expired.output = log_path.read_text()[-5000:]
            raise
        finally:
            for pid in processes_of(mark):
                os.kill(pid, signal.SIGKILL)
    return Run(returncode, log_path.read_text(), run_dir, leftover, ended_at)


def wait_for_end(mark: str) -> list[int]:
    """The processes with this mark that are still there after GRACE_SECONDS."""
    until = time.monotonic() + GRACE_SECONDS
    while (alive := processes_of(mark)) and time.monotonic() < until:
        time.sleep(0.2)
    return alive


def processes_of(mark: str) -> list[int]:
    """Living processes that inherited the mark of a run in their environment (Linux)."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            try:
                if mark.encode() in (folder / "environ").read_bytes():
                    found.append(int(folder.name))
            except OSError:
                continue  # it has just ended, or is not ours
    return found


def replay(folder, *steps: int) -> list[str]:
    """Record the batch of the first of ``steps`` if there is none in ``folder``, and use it at all of them."""
    return [
        "skip.rollout_tq.enable=true",
        f"skip.rollout_tq.dump_dir={folder}",
        f"skip.rollout_tq.steps=[{','.join(map(str, steps))}]",
        "skip.rollout_tq.action=repeat",
    ]
