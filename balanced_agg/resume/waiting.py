"""Waiting for another process no longer than it lives. verl and vLLM wait for ever in three places."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import ray

SECONDS_BETWEEN_LOOKS = 1


class AnsweredSocket:
    """A ZMQ socket to vLLM whose ``recv`` raises what ended the remote call that should answer."""

    def __init__(self, socket: Any, receiver: ray.ObjectRef):
        self._socket, self._receiver = socket, receiver

    def __getattr__(self, name: str) -> Any:
        return getattr(self._socket, name)

    def recv(self) -> bytes:
        while not self._socket.poll(1000 * SECONDS_BETWEEN_LOOKS):
            ended, _ = ray.wait([self._receiver], timeout=0)
            if ended:
                ray.get(self._receiver)
        return self._socket.recv()


class Watch:
    """Raises in :meth:`look` if one of these actors has died. A look takes no time: a question is always open."""

    def __init__(self, what: str, actors: list[Any]):
        self.what = what
        self._questions = {actor.__ray_ready__.remote(): actor for actor in actors}

    def look(self) -> None:
        """RuntimeError with the actor's kind and Ray's account of its end."""
        answers, _ = ray.wait(list(self._questions), num_returns=len(self._questions), timeout=0)
        for answer in answers:
            actor = self._questions.pop(answer)
            try:
                ray.get(answer)
            except ray.exceptions.RayActorError as error:
                raise RuntimeError(f"{self.what} has died, and its rollouts will never come") from error
            self._questions[actor.__ray_ready__.remote()] = actor


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
