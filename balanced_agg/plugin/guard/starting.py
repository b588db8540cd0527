"""A run ends when Ray cannot start its first process. Ray would try again for ever, whatever the process dies of."""

import os
import signal
import sys
import threading
import time
from pathlib import Path

import ray
from omegaconf import DictConfig

from balanced_agg.plugin.checks.cluster import starts_ray

SECONDS_BETWEEN_LOOKS = 1
# In raylet.out, a minute after a process was started that died before it came to join Ray.
DIED = ("have not registered within the timeout", "The process is dead")


def watch(config: DictConfig) -> None:
    """In the driver, before it starts Ray: a thread watches for the first process, until there is one.

    A cluster that runs already is not watched: its logs are on other machines, and its processes others' too.
    """
    if starts_ray(config):
        threading.Thread(target=_end_without_first_process, daemon=True).start()


def _end_without_first_process() -> None:
    while not ray.is_initialized():  # unless it has been refused meanwhile, which ends this process and its thread
        time.sleep(SECONDS_BETWEEN_LOOKS)
    logs = Path(ray._private.worker._global_node.get_logs_dir_path())
    job = ray.get_runtime_context().get_job_id()
    while not started(logs, job):
        if (reason := died_at_start(logs)) is not None:
            print(f"balanced_agg: Ray cannot start the run's processes: {reason}", file=sys.stderr, flush=True)
            os.kill(os.getpid(), signal.SIGTERM)
            return
        time.sleep(SECONDS_BETWEEN_LOOKS)


def started(logs: Path, job: str) -> bool:
    """Whether a process of this job has joined Ray, which then gives it a log of its own."""
    return any(logs.glob(f"worker-*-{job}-*.err"))


def died_at_start(logs: Path) -> str | None:
    """What a process last said that died before it joined Ray, or where to look; None if none has died."""
    said, errors = logs / "raylet.out", logs / "raylet.err"
    if not any(all(part in line for part in DIED) for line in said.read_text(errors="replace").splitlines()):
        return None
    lines = errors.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else f"they end before they say anything; see {said}"
