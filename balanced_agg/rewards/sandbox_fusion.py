"""Runs one Python script on a Sandbox Fusion service (github.com/bytedance/SandboxFusion), the one verl speaks to.

verl's own client is not used: it scores a service that fails as a wrong answer, and compares outputs as whole texts.
"""

import functools
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import requests
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

from balanced_agg.rewards.errors import GraderFailed
from balanced_agg.rewards.sandbox import Execution, Limits

# A gateway in front of the service may give up on a queued request; running a script again is harmless.
RETRY = Retry(total=3, status_forcelist=[502, 503, 504], allowed_methods=None, backoff_factor=0.5)
QUEUE_SECONDS = 60.0


@contextmanager
def place(deadline: float, url: str, max_concurrent: int) -> Iterator[None]:
    """Hold one of `max_concurrent` places of this process for requests to the service at `url`.

    GraderFailed if none is free by `deadline`, in seconds of `time.monotonic`.
    """
    places = _places(url, max_concurrent)
    if not places.acquire(timeout=max(0.0, deadline - time.monotonic())):
        raise GraderFailed("no request to Sandbox Fusion was free in time: raise reward.sandbox_fusion.max_concurrent")
    try:
        yield
    finally:
        places.release()


def execute(script: str, stdin: bytes, limits: Limits, url: str) -> Execution:
    """Run `script` on the service at `url`. The caller sees to it that not too many run at once (see `place`).

    GraderFailed if the service cannot be reached, refuses, or reports an error of its own.
    """
    request = {
        "language": "python",
        "code": script,
        "stdin": stdin.decode(),
        "compile_timeout": limits.seconds,
        "run_timeout": limits.seconds,
        "memory_limit_MB": limits.memory_bytes // 2**20,
        "files": {},
        "fetch_files": [],
    }
    try:
        with requests.Session() as session:
            session.mount(url, HTTPAdapter(max_retries=RETRY))
            response = session.post(url, json=request, timeout=2 * limits.seconds + QUEUE_SECONDS)
            response.raise_for_status()
        answer = response.json()
        run = answer["run_result"]
        if answer["status"] not in ("Success", "Failed") or run["status"] not in ("Finished", "TimeLimitExceeded"):
            raise GraderFailed(f"Sandbox Fusion reports {answer['status']}: {answer.get('message')}")
        output = (run["stdout"] or "").encode()
        completed = run["status"] == "Finished" and run["return_code"] == 0 and len(output) <= limits.output_bytes
        return Execution(output, completed, run["execution_time"] or limits.seconds)
    except (requests.RequestException, KeyError, TypeError, AttributeError) as error:
        raise GraderFailed(f"Sandbox Fusion at {url}: {error!r}") from error


@functools.cache
def _places(url: str, max_concurrent: int) -> threading.BoundedSemaphore:
    return threading.BoundedSemaphore(max_concurrent)
