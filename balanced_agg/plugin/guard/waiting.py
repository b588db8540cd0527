"""Liveness: a run ends when a process that it waits for has died. verl and vLLM would wait for ever in three places.

The wrappers at the end are put in place by in_verl.py.
"""

import asyncio
import time
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import ray
import zmq

SECONDS_BETWEEN_PINGS = 1


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
            if self._socket.poll(1000 * SECONDS_BETWEEN_PINGS, event):
                try:
                    return act()
                except zmq.Again:  # the peer has gone meanwhile
                    pass
            ended, _ = ray.wait([self._receiver], timeout=0)
            if ended:
                ray.get(self._receiver)


class Watch:
    """Pings processes, and raises in :meth:`check` if one has died.

    A check never blocks: each process always has one ping open, and one that is busy may leave it unanswered. A ping
    costs milliseconds at both ends, so checks within SECONDS_BETWEEN_PINGS of the last one do nothing.
    """

    def __init__(self, pings: Iterable[tuple[str, Callable[[], ray.ObjectRef]]]):
        """`pings`: the kind of process, and the remote call that pings it, which fails once the process is dead."""
        self._open = {ping(): (kind, ping) for kind, ping in pings}
        self._next_check = 0.0  # by time.monotonic

    def check(self) -> None:
        """RuntimeError with the kind of process and Ray's account of its end."""
        if time.monotonic() < self._next_check:
            return
        self._next_check = time.monotonic() + SECONDS_BETWEEN_PINGS
        answers, _ = ray.wait(list(self._open), num_returns=len(self._open), timeout=0)
        for answer in answers:
            kind, ping = self._open.pop(answer)
            try:
                ray.get(answer)
            except ray.exceptions.RayError as error:
                raise RuntimeError(f"{kind} has died: its rollouts will never come") from error
            self._open[ping()] = kind, ping


def check_engine(server: Any) -> None:
    """In verl's vLLM server: raises what vLLM's engine, a process of its own, has died of. Not all servers have one."""
    engine = getattr(server, "engine", None)
    if getattr(engine, "errored", False):
        raise engine.dead_error


_receiver: ContextVar[Any] = ContextVar("balanced_agg_receiver", default=None)
_watches: WeakKeyDictionary = WeakKeyDictionary()  # ReplayBuffer -> Watch of the actors that fill it


def watch_rollout(wrapped: Callable, trainer: Any, args: tuple, kwargs: dict) -> None:
    """verl trains here, with the agent loop workers and vLLM servers that fill the replay buffer: watch them."""
    agent_loops = kwargs["agent_loop_manager"] if "agent_loop_manager" in kwargs else args[0]
    replicas = [replica for manager in trainer._rollout_server_managers() for replica in manager.get_replicas()]
    servers = [server for replica in replicas for server in replica.servers]
    workers = getattr(agent_loops, "agent_loop_workers", [])
    _watches[trainer.replay_buffer] = Watch(
        [("an agent loop worker", worker.__ray_ready__.remote) for worker in workers]
        + [("a vLLM server", partial(server.__ray_call__.remote, check_engine)) for server in servers]
    )
    wrapped(*args, **kwargs)


def ping_while_waiting(wrapped: Callable, replay_buffer: Any, args: tuple, kwargs: dict) -> float:
    """verl waits here for rollouts, for ever where their process has died: check the watched processes first."""
    if replay_buffer in _watches:
        _watches[replay_buffer].check()
    return wrapped(*args, **kwargs)


async def note_receiver(wrapped: Callable, rollout: Any, args: tuple, kwargs: dict) -> Any:
    """verl has vLLM receive new weights by this remote call, then sends them: keep the call's future for the sender."""
    future = await wrapped(*args, **kwargs)
    _receiver.set(future if kwargs.get("non_block") else None)
    return future


def expect_answers(wrapped: Callable, sender: Any, args: tuple, kwargs: dict) -> None:
    """verl opens its socket to vLLM here and waits for ever for answers: end where the receiving call has failed."""
    wrapped(*args, **kwargs)
    if (receiver := _receiver.get()) is not None:
        sender.socket = AnsweredSocket(sender.socket, receiver)


async def fail_with_engine(wrapped: Callable, client: Any, args: tuple, kwargs: dict) -> Any:
    """vLLM leaves a call open for ever if its engine's process dies meanwhile: raise, as for later calls.

    `client` is vLLM's ``AsyncMPClient``. What is raised is vLLM's EngineDeadError.
    """
    from vllm.v1.engine.exceptions import EngineDeadError

    answer = asyncio.ensure_future(wrapped(*args, **kwargs))
    try:
        while not (await asyncio.wait([answer], timeout=SECONDS_BETWEEN_PINGS))[0]:
            if client.resources.engine_dead:
                raise EngineDeadError
        return answer.result()
    finally:
        answer.cancel()
