"""A run ends when Ray cannot start its first process. Ray would try again for ever, whatever the process dies of."""

import signal
import sys
import threading
import time
from pathlib import Path
from types import FrameType

import ray
from omegaconf import DictConfig

from balanced_agg.plugin.checks.cluster import starts_ray

SECONDS_BETWEEN_LOOKS = 1
LAST_LINES = 8  # of what a process said
GIVE_UP = signal.SIGRTMIN  # one that nobody else sends
# In raylet.out, a minute after a process was started that died before it came to join Ray.
DIED = ("have not registered within the timeout", "The process is dead")


def watch(config: DictConfig) -> None:
    """In the driver, before it starts Ray: a thread watches for the first process, until there is one.

    The driver then waits for that process in its main thread, where a signal ends it with what the process said. A
    cluster that runs already is not watched: its logs are on other machines, and its processes others' too.
    """
    if starts_ray(config):
        signal.signal(GIVE_UP, _give_up)
        threading.Thread(target=_wait_for_first_process, daemon=True).start()


def _wait_for_first_process() -> None:
    while not ray.is_initialized():  # unless it has been refused meanwhile, which ends this process and its thread
        time.sleep(SECONDS_BETWEEN_LOOKS)
    job = ray.get_runtime_context().get_job_id()
    while not started(_logs(), job):
        if died_at_start(_logs()) is not None:
            signal.pthread_kill(threading.main_thread().ident, GIVE_UP)
            return
        time.sleep(SECONDS_BETWEEN_LOOKS)


def _give_up(number: int, frame: FrameType | None) -> None:
    reason = f"balanced_agg: Ray cannot start the run's processes:\n{died_at_start(_logs())}"
    sys.excepthook = lambda *_: print(reason, file=sys.stderr, flush=True)
    raise KeyboardInterrupt  # the one exception that a wait for Ray hands on


def _logs() -> Path:
    return Path(ray._private.worker._global_node.get_logs_dir_path())


def started(logs: Path, job: str) -> bool:
    """Whether a process of this job has joined Ray, which then gives it a log of its own."""
    return any(logs.glob(f"worker-*-{job}-*.err"))


def died_at_start(logs: Path) -> str | None:
    """The last lines of a process that died before it joined Ray, or where to look; None if none has died."""
    said, errors = logs / "raylet.out", logs / "raylet.err"
    if not any(all(part in line for part in DIED) for line in said.read_text(errors="replace").split("\n")):
        return None
    last = "\n".join(errors.read_text(errors="replace").strip().split("\n")[-LAST_LINES:])
    return last or f"they end before they say anything; see {said}"
