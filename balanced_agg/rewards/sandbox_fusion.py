"""Runs one Python script on a Sandbox Fusion service (github.com/bytedance/SandboxFusion), the one verl speaks to.

verl's own client is not used: it scores a service that fails as a wrong answer, and compares outputs as whole texts.
"""

import functools
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import requests

from balanced_agg.rewards.errors import GraderFailed
from balanced_agg.rewards.sandbox import START_SECONDS, Execution, Limits

# A gateway in front of the service may give up on a queued request; running a script again is harmless.
GATEWAY_GAVE_UP = (502, 503, 504)
PAUSES = (0.0, 0.5, 1.0, 2.0)  # seconds before each attempt
CONNECT_SECONDS = 5.0


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

    GraderFailed if the service cannot be reached, refuses, reports an error of its own, or has not answered after the
    script's seconds and those that a sandbox on this machine may take to start, further attempts included.
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
        answer = _post(url, request, time.monotonic() + START_SECONDS + limits.seconds - CONNECT_SECONDS).json()
        run = answer["run_result"]
        if answer["status"] not in ("Success", "Failed") or run["status"] not in ("Finished", "TimeLimitExceeded"):
            raise GraderFailed(f"Sandbox Fusion reports {answer['status']}: {answer.get('message')}")
        output = (run["stdout"] or "").encode()
        completed = run["status"] == "Finished" and run["return_code"] == 0 and len(output) <= limits.output_bytes
        return Execution(output, completed, run["execution_time"] or limits.seconds)
    except (requests.RequestException, KeyError, TypeError, AttributeError) as error:
        raise GraderFailed(f"Sandbox Fusion at {url}: {error!r}") from error


def _post(url: str, request: dict, deadline: float) -> requests.Response:
    failure = "no time was left"
    for pause in PAUSES:
        if time.monotonic() + pause >= deadline:
            break
        time.sleep(pause)
        try:
            response = requests.post(url, json=request, timeout=(CONNECT_SECONDS, deadline - time.monotonic()))
        except requests.ConnectionError as error:
            failure = repr(error)
            continue
        if response.status_code not in GATEWAY_GAVE_UP:
            response.raise_for_status()
            return response
        failure = f"status {response.status_code}"
    raise GraderFailed(f"Sandbox Fusion at {url}: {failure}")


@functools.cache
def _places(url: str, max_concurrent: int) -> threading.BoundedSemaphore:
    return threading.BoundedSemaphore(max_concurrent)
