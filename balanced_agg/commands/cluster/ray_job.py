"""A Ray job that ends with its submitter (unless that is killed by SIGKILL), and whose end is that of its actors."""

import asyncio
import contextlib
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator

import aiohttp
from ray.exceptions import RayError
from ray.job_submission import JobStatus, JobSubmissionClient
from ray.util.state import list_actors, list_nodes
from ray.util.state.exception import RayStateApiException

# What is raised where there is no cluster (yet, or any more), and by one that refuses us or our job.
ABSENT = (OSError, RayStateApiException)
FAILURES = (*ABSENT, RayError, RuntimeError)
POLL_SECONDS = 0.5
END_SECONDS = 60  # for a job that was told to stop, and for the actors of one that has ended
MANY = 10_000  # Ray lists 100 of anything unless it is told otherwise


def connect(url: str, seconds: float, nodes: int) -> JobSubmissionClient:
    """A client of the cluster at this URL of its dashboard, once it has so many nodes.

    TimeoutError: it has not within so many seconds. RayError, RuntimeError: it refuses this client.
    """
    deadline = time.monotonic() + seconds
    waiting = False
    while True:
        try:
            client = JobSubmissionClient(url)
            here = len(list_nodes(url, filters=[("state", "=", "ALIVE")], limit=MANY))
            if here >= nodes:
                return client
            found = f"{here} of {nodes} nodes are there"
        except ABSENT as error:
            found = str(error)
        if time.monotonic() > deadline:
            raise TimeoutError(f"no cluster of {nodes} nodes at {url} within {seconds:g} s: {found}")
        if not waiting:
            say(f"waiting up to {seconds:g} s for {nodes} nodes at {url}")
            waiting = True
        time.sleep(POLL_SECONDS)


def run(client: JobSubmissionClient, url: str, job: str, entrypoint: str, environment: dict[str, str]) -> int:
    """Run a command as the job of this id, print its output, and return its exit status; 128 + signal if stopped.

    Ctrl-C and SIGTERM stop the job. Either way its actors are gone when this returns: the next job can have their GPUs.

    One of FAILURES: the cluster does not take the job, or is gone.
    """
    with signals_raise_system_exit():
        try:
            # Ray writes the interpreter into a command line of bash's as it is, whatever characters its path has.
            runtime_env = {"env_vars": environment, "py_executable": shlex.quote(sys.executable)}
            client.submit_job(entrypoint=entrypoint, submission_id=job, runtime_env=runtime_env)
            asyncio.run(_print_output(client, job))
            return _exit_status(client, job)
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_IGN)
            _end(client, url, job)


@contextlib.contextmanager
def signals_raise_system_exit() -> Iterator[None]:
    """SystemExit(128 + signal), where Python would raise KeyboardInterrupt or just end."""

    def leave(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, leave) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


async def _print_output(client: JobSubmissionClient, job: str) -> None:
    try:
        async for text in client.tail_job_logs(job):
            print(text, end="", flush=True)
    except (RuntimeError, aiohttp.ClientError) as error:
        say(f"the job's output is lost from here on: {error}")


def _exit_status(client: JobSubmissionClient, job: str) -> int:
    """Of a job, once it has ended."""
    _wait(lambda: client.get_job_status(job).is_terminal())
    details = client.get_job_info(job)
    if details.status == JobStatus.SUCCEEDED:
        return 0
    status = details.driver_exit_code
    if status is None:  # it never ran, or was stopped by someone else
        say(f"job {job} ended as {details.status}: {details.message}")
        return 1
    return status if status > 0 else 128 - status


def _end(client: JobSubmissionClient, url: str, job: str) -> None:
    """Stop the job if it runs, and wait until no actor of it is left."""
    try:
        details = client.get_job_info(job)
        if not details.status.is_terminal():
            say(f"stopping job {job}")
            client.stop_job(job)
            _wait(lambda: client.get_job_status(job).is_terminal(), END_SECONDS)
        if of_its_driver := client.get_job_info(job).job_id:  # None if that never came to join the cluster
            alive = [("job_id", "=", of_its_driver), ("state", "!=", "DEAD")]
            _wait(lambda: not list_actors(url, filters=alive, limit=MANY), END_SECONDS)
    except FAILURES as error:
        say(f"cannot tell whether job {job} has ended: {error}")


def _wait(condition: Callable[[], bool], seconds: float = float("inf")) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"still running after {seconds:g} s")
        time.sleep(POLL_SECONDS)


def say(line: str) -> None:
    print(f"balanced-agg submit: {line}", file=sys.stderr, flush=True)
