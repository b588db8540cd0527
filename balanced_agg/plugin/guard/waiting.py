"""Waiting for another process no longer than it lives. verl and vLLM wait for ever in three places."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

import ray
import zmq

SECONDS_BETWEEN_LOOKS = 1


class AnsweredSocket:
    """A ZMQ socket to vLLM whose ``send_pyobj`` and ``recv`` raise what ended the remote call at its other end."""

    def __init__(self, socket: zmq.Socket, receiver: ray.ObjectRef):
        self._socket, self._receiver = socket, receiver

    def __getattr__(self, name: str) -> Any:
        return getattr(self._socket, name)

    def send_pyobj(self, obj: Any) -> None:
        # Without a peer sending blocks, too.
        self._wait_for(zmq.POLLOUT, lambda: self._socket.send_pyobj(obj, zmq.NOBLOCK))

    def recv(self) -> bytes:
        return self._wait_for(zmq.POLLIN, lambda: self._socket.recv(zmq.NOBLOCK))

    def _wait_for(self, event: int, act: Callable[[], Any]) -> Any:
        while True:
            if self._socket.poll(1000 * SECONDS_BETWEEN_LOOKS, event):
                try:
                    return act()
                except zmq.Again:  # the peer has gone meanwhile
                    pass
            ended, _ = ray.wait([self._receiver], timeout=0)
            if ended:
                ray.get(self._receiver)


class Watch:
    """Asks processes whether they live, and raises in :meth:`look` if one has said no or nothing any more.

    A look takes no time: to each there is always a question open, and one that is busy may leave it so. A question
    takes milliseconds of both, so those who look more often than every SECONDS_BETWEEN_LOOKS see nothing new.
    """

    def __init__(self, questions: Iterable[tuple[str, Callable[[], ray.ObjectRef]]]):
        """`questions`: the kind of process, and what asks it; the remote call fails once it is dead."""
        self._open = {ask(): (kind, ask) for kind, ask in questions}
        self._next_look = 0.0  # by time.monotonic

    def look(self) -> None:
        """RuntimeError with the kind of process and Ray's account of its end."""
        if time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + SECONDS_BETWEEN_LOOKS
        answers, _ = ray.wait(list(self._open), num_returns=len(self._open), timeout=0)
        for answer in answers:
            kind, ask = self._open.pop(answer)
            try:
                ray.get(answer)
            except ray.exceptions.RayError as error:
                raise RuntimeError(f"{kind} has died: its rollouts will never come") from error
            self._open[ask()] = kind, ask


def check_engine(server: Any) -> None:
    """In verl's vLLM server: raises what vLLM's engine, a process of its own, has died of. Not all servers have one."""
    engine = getattr(server, "engine", None)
    if getattr(engine, "errored", False):
        raise engine.dead_error


async def while_alive(call: Coroutine, client: Any) -> Any:
    """The result of a call that vLLM's `client` (``AsyncMPClient``) has sent to its engine.

    Raises:
        EngineDeadError: the engine's process has died. vLLM raises it for later calls, and leaves this one open.
    """
    from vllm.v1.engine.exceptions import EngineDeadError

    answer = asyncio.ensure_future(call)
    try:
        while not (await asyncio.wait([answer], timeout=SECONDS_BETWEEN_LOOKS))[0]:
            if client.resources.engine_dead:
                raise EngineDeadError
        return answer.result()
    finally:
        answer.cancel()
