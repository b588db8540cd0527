"""Grading in processes that can be killed, since sympy can run forever on a short expression.

The processes are started as ``python -m balanced_agg.rewards.grader_worker``. multiprocessing's spawn and forkserver
would import the caller's main module again, which here is Ray's worker script or a user's script without a ``__main__``
guard; and its fork would copy a process full of threads. pebble's pool, which is built on them, was tried: it runs such
a script three times and then fails, its busy workers survive a killed parent, and a grade after a kill waits 2.4 s.
"""

import json
import os
import subprocess
import sys
import threading
from collections import deque
from multiprocessing import Pipe
from typing import Any

from balanced_agg.rewards.errors import GraderFailed

# Importing sympy takes half a second on an idle machine, and much longer while a training run starts on it.
START_SECONDS = 120.0


class GraderProcesses:
    """`processes` graders at work at a time, and one more that is warm already when one of them has to be killed.

    Safe to call from any number of threads. A worker has one task at a time; one that exceeds the time limit,
    or dies, is replaced, which costs nothing but the grade it was busy with. Workers end with this process,
    however that ends; `close` ends them at once.
    """

    def __init__(self, processes: int):
        if processes < 1:
            raise ValueError(f"processes must be at least 1, got {processes}")
        self._free = threading.Semaphore(processes)
        self._idle = deque(_Worker() for _ in range(processes + 1))  # the warm ones on the left, where they are taken

    def equals_any(self, golds: list[str], answer: str, relative_tolerance: float, time_limit: float) -> bool:
        """Whether `answers_equal` holds for one of the golds.

        `time_limit` is in seconds of wall time from when a warm worker took the task: neither queueing nor the
        start of a process counts. GraderFailed if the limit is exceeded, if the worker dies (also for want of memory),
        or if the comparison raises. RuntimeError if workers cannot start at all.
        """
        request = {"golds": golds, "answer": answer, "tolerance": relative_tolerance, "time_limit": time_limit}
        with self._free:
            worker = self._idle.popleft()
            try:
                reply = worker.ask(request)
            except BaseException:
                try:
                    worker.restart()
                finally:
                    self._idle.append(worker)
                raise
            self._idle.appendleft(worker)
        if "error" in reply:
            raise GraderFailed(f"the comparison raised {reply['error']}")
        return reply["equal"]

    def close(self) -> None:
        """Kill all idle workers. No call may be in progress or follow."""
        for worker in self._idle:
            worker.kill()


_shared: dict[int, GraderProcesses] = {}
_shared_lock = threading.Lock()


def shared_processes(processes: int) -> GraderProcesses:
    """The graders of this process, started at the first call for each number of processes."""
    with _shared_lock:
        if processes not in _shared:
            _shared[processes] = GraderProcesses(processes)
        return _shared[processes]


def _forget_in_child() -> None:
    """A forked child must not talk to its parent's workers, and must not hold their pipes open either."""
    global _shared_lock
    _shared_lock = threading.Lock()
    _shared.clear()


os.register_at_fork(after_in_child=_forget_in_child)


class _Worker:
    """One grader process, replaced by another when it ends. Used by one thread at a time."""

    def __init__(self):
        self._start()

    def _start(self) -> None:
        self._ready = False
        self._connection, theirs = Pipe()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "balanced_agg.rewards.grader_worker", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
                start_new_session=True,  # Ctrl-C is for the parent to handle
            )

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """The reply to `request`, within its time limit from when the process is ready.

        GraderFailed if none comes, RuntimeError if the process cannot start. The worker is to be restarted then.
        """
        if self._process.poll() is not None:  # it was killed from outside while it was idle, which is no grade's fault
            self.restart()
        if not self._ready:
            self._wait_until_ready()
        try:
            self._connection.send_bytes(json.dumps(request).encode("ascii"))
            return self._read(request["time_limit"])
        except TimeoutError as error:
            raise GraderFailed(f"no judgement within {request['time_limit']:g} s") from error
        except (EOFError, ConnectionError) as error:
            raise GraderFailed(f"the grader process died (exit status {self._process.wait()})") from error

    def _wait_until_ready(self) -> None:
        try:
            answer = self._read(START_SECONDS)
        except TimeoutError as error:
            raise RuntimeError(f"a grader process did not start within {START_SECONDS:g} s") from error
        except (EOFError, ConnectionError) as error:
            raise RuntimeError(f"a grader process ended at its start (exit status {self._process.wait()})") from error
        if "unusable" in answer:
            raise RuntimeError(f"graders cannot start: {answer['unusable']}; install math-verify==0.9.0")
        self._ready = True

    def restart(self) -> None:
        self.kill()
        self._start()

    def kill(self) -> None:
        """Kill the process, unless it is dead already, and free what it held here."""
        self._process.kill()
        self._process.wait()
        self._connection.close()

    def _read(self, seconds: float) -> dict[str, Any]:
        """The next message. TimeoutError after so many seconds, EOFError or ConnectionError where the process ended."""
        if not self._connection.poll(seconds):
            raise TimeoutError
        return json.loads(self._connection.recv_bytes())  # not recv, which would unpickle what a worker says
