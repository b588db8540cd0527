"""Loaded into every verl process of a test run: kills one of its processes at a point of a step, once.

KILL_AT is STEP:POINT:VICTIM, with a POINT and a VICTIM of those below; without it nothing is killed. In KILL_DIR it
leaves `prompts.jsonl`, the prompts that each step was given, and `killed.json`, what was killed and when.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

from tests.end_to_end.launch import processes_of
from tests.wrapping import wrap_when_imported

# By the titles that Ray and vLLM give their processes; two of them are the driver.
VICTIMS = {
    "command": "verl.trainer.main_ppo",
    "driver": "ray::TaskRunnerV1",
    "worker": "ray::WorkerDict",
    "agent loop": "ray::AgentLoopWorker",
    "vLLM server": "ray::vLLMHttpServer",
    "vLLM engine": "VLLM::EngineCore",
    "Ray head": "gcs_server",
    "raylet": "raylet/raylet",
}
FOLDER = Path(os.environ["KILL_DIR"])
STEP, POINT, VICTIM = os.environ.get("KILL_AT", "0:nowhere:no one").split(":")


def _kill_at(point: str, step: int) -> bool:
    """Whether it was the time, and this process is not the one."""
    killed = FOLDER / "killed.json"
    if point != POINT or step != int(STEP) or killed.exists():
        return False
    others = processes_of(os.environ["BALANCED_AGG_TEST_RUN"])
    titles = {pid: _title(pid) for pid in (os.getpid(), *others)}
    pids = [pid for pid, title in titles.items() if VICTIMS[VICTIM] in title]
    assert len(pids) == 1, titles
    killed.write_text(json.dumps({"step": step, "point": point, "victim": VICTIM, "at": time.time()}))
    os.kill(pids[0], signal.SIGKILL)
    return True


def _title(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""


def _step() -> int:
    """The step in progress, as the driver has told; 0 before the first of this process."""
    file = FOLDER / "step.txt"
    return int(file.read_text()) if file.exists() else 0


def _tell_step(wrapped, trainer, args, kwargs):
    (FOLDER / "step.txt").write_text(str(trainer.global_steps))
    return wrapped(*args, **kwargs)


def _note_prompts(wrapped, trainer, args, kwargs):
    batch = wrapped(*args, **kwargs)
    prompts = [messages[-1]["content"] for messages in batch["raw_prompt"]]
    with (FOLDER / "prompts.jsonl").open("a") as file:
        print(json.dumps([trainer.global_steps, prompts]), file=file)
    return batch


def _before(point):
    def wrapper(wrapped, instance, args, kwargs):
        _kill_at(point, _step())
        return wrapped(*args, **kwargs)

    return wrapper


def _after(point):
    def wrapper(wrapped, instance, args, kwargs):
        result = wrapped(*args, **kwargs)
        _kill_at(point, _step())
        return result

    return wrapper


def _half_written(wrapped, instance, args, kwargs):
    wrapped(*args, **kwargs)
    path = kwargs["f"] if "f" in kwargs else args[1]
    if POINT == "checkpoint" and "optim_world_size" in str(path):
        if _step() == int(STEP):
            os.truncate(path, Path(path).stat().st_size // 2)
        while _kill_at("checkpoint", _step()):
            signal.pause()  # it is still writing


def _save(wrapped, trainer, args, kwargs):
    module = sys.modules["verl.trainer.ppo.v1.trainer_base"]

    def open_and_be_killed(path, *further, **named):
        file = Path(path).open(*further, **named)  # noqa: SIM115 (the caller closes it); which empties it
        if str(path).endswith("latest_checkpointed_iteration.txt"):
            _kill_at("end of checkpoint", trainer.global_steps)
        return file

    module.open = open_and_be_killed
    try:
        wrapped(*args, **kwargs)
    finally:
        del module.open


_TRAINER = "verl.trainer.ppo.v1.trainer_base"
_TRANSFER = "verl.workers.rollout.vllm_rollout.bucketed_weight_transfer"
for _module, _name, _wrapper in (
    (_TRAINER, "PPOTrainer.step", _tell_step),
    (_TRAINER, "PPOTrainer._next_train_batch", _note_prompts),
    (_TRAINER, "PPOTrainer._submit_batch_to_rollout", _after("rollout")),
    ("verl.workers.utils.losses", "ppo_loss", _before("update")),
    (_TRANSFER, "BucketedWeightSender._init_buffer", _after("weight sync")),
    (_TRAINER, "PPOTrainer._save_checkpoint", _save),
    ("torch", "save", _half_written),
    (_TRAINER, "PPOTrainer._consume_sync_metrics", _before("before logging")),
):
    wrap_when_imported(_module, _name, _wrapper)
