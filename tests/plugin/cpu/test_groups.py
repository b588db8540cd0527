"""The sessions of a prompt make one request for all of them, whichever of them fail."""

import asyncio
from types import SimpleNamespace

import pytest
import torch
import transfer_queue

from balanced_agg.plugin.cpu import groups
from balanced_agg.plugin.cpu.groups import Group, OneServer


def run_sessions(*sessions) -> list:
    """What each coroutine function returned or raised, all of them members of one group that begin before any waits."""

    async def session(group, function):
        groups._group.set(group)
        with group.joined():
            return await function(group)

    async def run():
        group = Group()
        return await asyncio.gather(*(session(group, function) for function in sessions), return_exceptions=True)

    return asyncio.run(asyncio.wait_for(run(), 10))


class Recorder:
    """An async function that notes its calls and returns their number."""

    def __init__(self) -> None:
        self.calls = []

    async def __call__(self, items):
        self.calls.append(list(items))
        return len(self.calls)


def test_one_call_is_made_for_all_members_once_each_waits():
    function = Recorder()

    def session(item, turns):
        async def run(group):
            for _ in range(turns):  # as if one session took longer than another to come here
                await asyncio.sleep(0)
            return await group.together(function, item)

        return run

    assert run_sessions(*(session(item, turns) for item, turns in enumerate((3, 0, 7)))) == [1, 1, 1]
    (items,) = function.calls
    assert sorted(items) == [0, 1, 2]


def test_a_member_that_fails_keeps_no_other_waiting():
    function = Recorder()

    async def fails(group):
        await asyncio.sleep(0)
        raise RuntimeError("no answer")

    async def waits(group):
        return await group.together(function, "row")

    failed, *others = run_sessions(fails, waits, waits)
    assert isinstance(failed, RuntimeError) and others == [1, 1]
    assert function.calls == [["row", "row"]]


def test_members_that_wait_for_different_calls_do_not_wait_for_each_other():
    asks, puts = Recorder(), Recorder()

    async def asks_twice(group):
        return await group.together(asks, "first"), await group.together(asks, "again")

    async def asks_and_puts(group):
        return await group.together(asks, "first"), await group.together(puts, "row")

    assert run_sessions(asks_twice, asks_and_puts) == [(1, 2), (1, 1)]
    assert asks.calls == [["first", "first"], ["again"]] and puts.calls == [["row"]]


def test_what_the_call_raises_reaches_each_member():
    async def refuses(items):
        raise ConnectionError("no server")

    async def session(group):
        return await group.together(refuses, None)

    assert [type(error) for error in run_sessions(session, session)] == [ConnectionError] * 2


@pytest.fixture
def client():
    """Stands for verl's client: it counts who asks for a server and who gives it back."""
    client = SimpleNamespace(acquired=[], released=[])

    async def acquire(request_id, **fields):
        client.acquired.append((request_id, fields))
        return f"server {len(client.acquired)}", "handle"

    client._acquire_server = acquire
    client._release_server = lambda server_id, request_id=None: client.released.append((server_id, request_id))
    return client


def test_a_group_has_one_server_and_gives_it_back_once_after_its_last_session(client):
    server = OneServer(client)
    held = []

    def session(request):
        async def run(group):
            server_id, _ = await server.acquire(request, prompt_ids=[1, 2])
            held.append(len(client.released))
            server.release(server_id, request_id=request)
            return server_id

        return run

    assert run_sessions(session("a"), session("b"), session("c")) == ["server 1"] * 3
    ((leader, fields),) = client.acquired
    assert fields == {"prompt_ids": [1, 2]}
    assert client.released == [("server 1", leader)]
    assert held == [0, 0, 0]


def test_a_request_of_no_group_has_a_server_of_its_own(client):
    server = OneServer(client)
    for request in ("a", "b"):
        server_id, _ = asyncio.run(server.acquire(request))
        server.release(server_id, request_id=request)
    assert client.acquired == [("a", {}), ("b", {})]
    assert client.released == [("server 1", "a"), ("server 2", "b")]


def row(length: int, **more) -> dict:
    return {"responses": torch.arange(length), "extra_fields": {"length": length}} | more


def put_by(sessions: dict[str, dict], monkeypatch) -> list[dict]:
    """The puts that reach TransferQueue for these rows, each of a session of one group that puts it as verl does."""
    puts = []

    async def store(**put):
        puts.append(put)

    async def wrapped(*args, **kwargs):
        pytest.fail("a session put its rows by itself")

    monkeypatch.setattr(transfer_queue, "async_kv_batch_put", store)

    def session(key, fields):
        async def run(group):
            table = groups._leave_rows(groups.list_of_dict_to_tensordict, None, ([fields],), {})
            put = {"keys": [key], "fields": table, "tags": [{"of": key}], "partition_id": "train"}
            await groups._put_together(wrapped, None, (), put)

        return run

    assert run_sessions(*(session(key, fields) for key, fields in sessions.items())) == [None] * len(sessions)
    return puts


def test_the_rows_of_a_group_are_put_at_once_and_are_those_that_each_session_would_put(monkeypatch):
    rows = {f"u_{i}_0": row(length) for i, length in enumerate((3, 1, 5))}
    (put,) = put_by(rows, monkeypatch)
    assert put["partition_id"] == "train" and put["tags"] == [{"of": key} for key in put["keys"]]
    assert sorted(put["keys"]) == sorted(rows)
    for place, key in enumerate(put["keys"]):
        alone, stored = groups.list_of_dict_to_tensordict([rows[key]])[0], put["fields"][place]
        assert stored["responses"].tolist() == alone["responses"].tolist()
        assert stored["extra_fields"] == alone["extra_fields"]


def test_rows_with_other_columns_are_put_apart(monkeypatch):
    scored = row(2, rm_scores=torch.zeros(2))
    puts = put_by({"u_0_0": scored, "u_1_0": row(2), "u_2_0": scored}, monkeypatch)
    assert sorted(sorted(put["keys"]) for put in puts) == [["u_0_0", "u_2_0"], ["u_1_0"]]


def test_outside_a_group_a_table_is_made_and_put_as_by_verl():
    table = groups._leave_rows(groups.list_of_dict_to_tensordict, None, ([row(2)],), {})
    assert table.batch_size == torch.Size([1])

    async def wrapped(*args, **kwargs):
        return "stored"

    put = {"keys": ["u_0_0"], "fields": table, "tags": [{}], "partition_id": "val"}
    assert asyncio.run(groups._put_together(wrapped, None, (), put)) == "stored"
