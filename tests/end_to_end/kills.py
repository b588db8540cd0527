"""One run, killed again and again and started again with the same command."""

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path

from balanced_agg.plugin.guard import checkpoints
from tests.end_to_end.launch import Run, train

SETTINGS = [
    "data.train_batch_size=4",
    "data.train_max_samples=24",  # six steps an epoch: the order of the next ones has to be right, too
    "actor_rollout_ref.actor.ppo_mini_batch_size=4",
    "actor_rollout_ref.rollout.n=4",
    "trainer.test_freq=-1",
    "trainer.val_before_train=false",
    "trainer.save_freq=1",
    "trainer.logger=[console,file]",
]
ERROR = re.compile(r"^[\w.]*(?:Error|Exception|Died)\b.*", re.MULTILINE)


@dataclass
class Killed:
    """One kill, and how the command ended by it.

    Attributes:
        seconds: from the kill to the end of the command.
        leftover: processes that outlived the command by 20 seconds.
        message: the last error in the log.
        logged: the last step in the log.
        resumes_from: the step of the last complete checkpoint, which the next start takes.
        incomplete: why each other checkpoint is incomplete, by its name.
    """

    step: int
    point: str
    victim: str
    exit_code: int
    seconds: float
    leftover: int
    message: str
    logged: int
    resumes_from: int
    incomplete: dict[str, str]


def start(folder: Path, steps: int, kill_at: str = "") -> Run:
    """Start the run in ``folder``, which resumes; its output is kept as ``log-K.txt``."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("killed.json", "step.txt"):
        (folder / name).unlink(missing_ok=True)
    environment = {"VERL_USE_EXTERNAL_MODULES": "tests.end_to_end.killing", "KILL_DIR": str(folder)}
    run = train(
        "arithmetic",
        folder,
        *SETTINGS,
        f"trainer.total_training_steps={steps}",
        environment=environment | ({"KILL_AT": kill_at} if kill_at else {}),
    )
    (folder / f"log-{len(list(folder.glob('log-*.txt')))}.txt").write_text(run.log)
    return run


def resumes_from(folder: Path) -> int:
    found = checkpoints.completed(folder / "checkpoints")
    return checkpoints.step(found[-1]) if found else 0


def kill(folder: Path, steps: int, point: str, victim: str) -> Killed:
    """Start the run and kill `victim` at `point` of the first step after the one it resumes from.

    AssertionError if the point was not reached, or if the command ended well in spite of it.
    """
    step = resumes_from(folder) + 1
    run = start(folder, steps, f"{step}:{point}:{victim}")
    assert (folder / "killed.json").exists(), run.log[-5000:]
    assert run.returncode != 0
    at = json.loads((folder / "killed.json").read_text())["at"]
    killed = Killed(
        step,
        point,
        victim,
        run.returncode,
        round(run.ended_at - at, 1),
        len(run.leftover),
        _message(run.log),
        max(run.steps, default=0) if (folder / "metrics.jsonl").exists() else 0,
        resumes_from(folder),
        checkpoints.incomplete(folder / "checkpoints"),
    )
    with (folder / "kills.jsonl").open("a") as file:
        print(json.dumps(asdict(killed)), file=file)
    return killed


def _message(log: str) -> str:
    errors = ERROR.findall(log)
    return errors[-1] if errors else ""


def kills_so_far(folder: Path) -> list[Killed]:
    file = folder / "kills.jsonl"
    return [Killed(**json.loads(line)) for line in file.read_text().splitlines()] if file.exists() else []


def logged_steps(folder: Path) -> list[int]:
    """The step of each line of the log, in the order of lines."""
    return [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


def prompts(folder: Path) -> dict[int, list[list[str]]]:
    """The prompts that each step was given, of each time it was begun."""
    begun: dict[int, list[list[str]]] = {}
    for line in (folder / "prompts.jsonl").read_text().splitlines():
        step, given = json.loads(line)
        begun.setdefault(step, []).append(given)
    return begun
