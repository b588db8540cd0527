"""The sessions of one prompt deal with the other processes of a run as one.

verl asks the load balancer for a server, gives it back, and puts rows into TransferQueue for each response by itself.
Here a session waits for its siblings at these points, and one request is made for all; what is stored is the same. A
rollout of the embedded tasks, whose models are small enough for that to count, is a fifth faster (docs/cost.md).

``actor_rollout_ref.rollout.agent.agent_loop_manager_class`` names :class:`GroupManager`, verl's own extension point. It
deals so with the agent loops of our recipes alone (``plugin/token_ids.py``); sessions of another, whose turns may take
long, go their own ways.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import ray
import transfer_queue
from verl.trainer.ppo.v1.agent_loop_tq import AgentLoopManagerTQ, AgentLoopWorkerTQ
from verl.utils.tensordict_utils import list_of_dict_to_tensordict
from verl.workers.rollout.llm_server import LLMServerClient

from balanced_agg.plugin import token_ids
from balanced_agg.plugin.wrapping import Wrapper, put_in_place


class Group:
    """The sessions of one prompt that have begun and not ended."""

    def __init__(self) -> None:
        self.members = 0
        self._waiting: list[tuple[Callable, Any, asyncio.Future]] = []
        self._tasks: set[asyncio.Task] = set()

    async def together(self, function: Callable, item: Any) -> Any:
        """What ``await function(items)`` returns, or raises, for the items of all members that came with this function.

        It is called once every member waits here, with whatever function, or has left; so no two wait for each other.
        """
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        self._waiting.append((function, item, future))
        loop.call_soon(self._call_if_all_wait)  # once those that verl has started with this one have begun
        return await future

    @contextmanager
    def joined(self) -> Iterator[None]:
        """A member for as long as this lasts."""
        self.members += 1
        try:
            yield
        finally:
            self.members -= 1
            self._call_if_all_wait()

    def _call_if_all_wait(self) -> None:
        if len(self._waiting) < self.members:
            return
        waiting, self._waiting = self._waiting, []
        by_function: dict[Callable, list[tuple[Any, asyncio.Future]]] = {}
        for function, item, future in waiting:
            by_function.setdefault(function, []).append((item, future))
        for function, entries in by_function.items():
            task = asyncio.create_task(self._call(function, entries))
            self._tasks.add(task)  # the event loop itself keeps none
            task.add_done_callback(self._tasks.discard)

    @staticmethod
    async def _call(function: Callable, entries: list[tuple[Any, asyncio.Future]]) -> None:
        result, error = None, None
        try:
            result = await function([item for item, _ in entries])
        except Exception as raised:
            error = raised
        for _, future in entries:
            if future.done():  # cancelled
                continue
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)


_group: ContextVar[Group | None] = ContextVar("group", default=None)  # of the session whose code this is


class OneServer:
    """Has a client of verl's ask for one server for all sessions of a group, and give it back once, after the last."""

    def __init__(self, client: LLMServerClient) -> None:
        self._acquire, self._release = client._acquire_server, client._release_server
        self._leader: dict[str, str] = {}  # request -> the one that was made for it
        self._users: dict[str, int] = {}  # such a request -> how many have not given the server back

    async def acquire(self, request_id: str, **fields: Any) -> tuple[str, Any]:
        """verl's ``_acquire_server``."""
        if not (group := _group.get()):
            return await self._acquire(request_id, **fields)
        return await group.together(self._acquire_for_all, (request_id, fields))

    async def _acquire_for_all(self, requests: list[tuple[str, dict]]) -> tuple[str, Any]:
        leader, fields = requests[0]
        acquired = await self._acquire(leader, **fields)
        self._leader |= {request: leader for request, _ in requests}
        self._users[leader] = len(requests)
        return acquired

    def release(self, server_id: str, request_id: str | None = None) -> None:
        """verl's ``_release_server``."""
        leader = self._leader.pop(request_id, None)
        if leader is None:
            self._release(server_id, request_id)
            return
        self._users[leader] -= 1
        if not self._users[leader]:
            del self._users[leader]
            self._release(server_id, leader)


class GroupWorker(AgentLoopWorkerTQ.__ray_metadata__.modified_class):
    """verl's agent loop worker, in which the sessions of a prompt are members of one group."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        server = OneServer(self.llm_client)
        self.llm_client._acquire_server, self.llm_client._release_server = server.acquire, server.release
        self._groups: dict[str, Group] = {}  # the prompt's uid -> its sessions

    async def _run_agent_loop(self, *args: Any, agent_name: str, **kwargs: Any) -> Any:
        if agent_name not in token_ids.NAMES:
            return await super()._run_agent_loop(*args, agent_name=agent_name, **kwargs)
        group = self._groups.setdefault(kwargs["uid"], Group())
        _group.set(group)  # of this session's task
        with group.joined():
            try:
                return await super()._run_agent_loop(*args, agent_name=agent_name, **kwargs)
            finally:
                if group.members == 1:
                    self._groups.pop(kwargs["uid"], None)


class GroupManager(AgentLoopManagerTQ):
    """verl's manager of agent loop workers, with workers of this kind."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.agent_loop_workers_class = ray.remote(GroupWorker)


def _leave_rows(wrapped: Callable, instance: None, args: tuple, kwargs: dict) -> Any:
    """verl makes one table of a session's rows for TransferQueue: leave them as they are where they wait for others."""

    def rows_of(list_of_dicts: list[dict]) -> Any:
        return list_of_dicts if _group.get() else wrapped(list_of_dicts)

    return rows_of(*args, **kwargs)


async def _put_together(wrapped: Callable, instance: None, args: tuple, kwargs: dict) -> Any:
    """verl puts the rows of each session into TransferQueue by themselves: put those of a prompt's sessions at once."""
    group = _group.get()
    if not group or type(kwargs.get("fields")) is not list:
        return await wrapped(*args, **kwargs)
    return await group.together(_put, kwargs)


async def _put(puts: list[dict]) -> None:
    rows: dict[tuple, list[tuple]] = {}  # partition and columns -> key, fields and tag of each row
    for put in puts:
        for key, fields, tag in zip(put["keys"], put["fields"], put["tags"], strict=True):
            rows.setdefault((put["partition_id"], *sorted(fields)), []).append((key, fields, tag))
    for (partition_id, *_), alike in rows.items():
        keys, fields, tags = (list(column) for column in zip(*alike, strict=True))
        table = list_of_dict_to_tensordict(fields)
        await transfer_queue.async_kv_batch_put(keys=keys, fields=table, tags=tags, partition_id=partition_id)


WRAPPERS = (
    Wrapper(
        "verl.trainer.ppo.v1.agent_loop_tq",
        "list_of_dict_to_tensordict",
        ("list_of_dicts",),
        _leave_rows,
        needs=("AgentLoopWorkerTQ", "AgentLoopManagerTQ", "tq.async_kv_batch_put"),
    ),
    Wrapper("transfer_queue", "async_kv_batch_put", ("keys", "partition_id", "fields", "tags", ...), _put_together),
)
# In the processes alone that need the manager or the worker, which import this.
put_in_place(WRAPPERS, asked_for="VERL_PLATFORM=cpu")
