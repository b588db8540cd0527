"""A process that waits for another one finds out that it has died."""

import asyncio
import tempfile
import time
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace

import pytest
import ray
import zmq

from balanced_agg.plugin.guard import waiting
from balanced_agg.plugin.guard.waiting import AnsweredSocket, Watch, check_engine

pytestmark = pytest.mark.slow  # a cluster of its own


@pytest.fixture(scope="module", autouse=True)
def cluster():
    own = {"address": "local", "include_dashboard": False, "log_to_driver": False}
    with tempfile.TemporaryDirectory() as folder:
        ray.init(**own, num_cpus=2, object_store_memory=100_000_000, _temp_dir=folder)
        yield
        ray.shutdown()


@ray.remote(num_cpus=0)
class Actor:
    def fail(self):
        raise LookupError("no such weights")

    def work(self, path: str):
        """Until there is such a file."""
        while not __import__("os").path.exists(path):
            time.sleep(0.01)


@pytest.fixture
def pinging_always(monkeypatch):
    monkeypatch.setattr(waiting, "SECONDS_BETWEEN_PINGS", 0.01)


@pytest.fixture
def pair(tmp_path):
    address = f"ipc://{tmp_path}/socket"
    sender, receiver = zmq.Context.instance().socket(zmq.REQ), zmq.Context.instance().socket(zmq.REP)
    sender.bind(address), receiver.connect(address)
    yield sender, receiver
    sender.close(linger=0), receiver.close(linger=0)


def test_an_answer_arrives_and_all_else_is_the_sockets_own(pair, tmp_path):
    sender, receiver = pair
    socket = AnsweredSocket(sender, Actor.remote().work.remote(f"{tmp_path}/never"))
    socket.send_pyobj("question")
    assert receiver.recv_pyobj() == "question"
    receiver.send(b"answer")
    assert socket.recv() == b"answer"


@pytest.mark.usefixtures("pinging_always")
def test_waiting_for_a_call_that_has_failed_raises_its_error(pair):
    socket = AnsweredSocket(pair[0], Actor.remote().fail.remote())
    socket.send(b"")
    with pytest.raises(LookupError, match="no such weights"):
        socket.recv()


@pytest.mark.usefixtures("pinging_always")
def test_waiting_for_an_actor_that_has_died_raises(pair, tmp_path):
    actor = Actor.remote()
    socket = AnsweredSocket(pair[0], actor.work.remote(f"{tmp_path}/never"))
    socket.send(b"")
    ray.kill(actor)
    with pytest.raises(ray.exceptions.RayActorError):
        socket.recv()


@pytest.mark.usefixtures("pinging_always")
def test_sending_to_an_actor_that_has_died_raises(tmp_path):
    actor = Actor.remote()
    unconnected = zmq.Context.instance().socket(zmq.REQ)
    unconnected.bind(f"ipc://{tmp_path}/alone")
    socket = AnsweredSocket(unconnected, actor.work.remote(f"{tmp_path}/never"))
    ray.kill(actor)
    with pytest.raises(ray.exceptions.RayActorError):
        socket.send_pyobj("weights")
    unconnected.close(linger=0)


def test_checks_in_quick_succession_ping_once():
    asked = []
    actor = Actor.remote()
    watch = Watch([("a worker", lambda: asked.append(1) or actor.__ray_ready__.remote())])
    ray.get(actor.__ray_ready__.remote())
    for _ in range(10):
        watch.check()
    assert len(asked) == 2  # at first, and after the answer to that


@pytest.mark.usefixtures("pinging_always")
def test_a_check_of_the_living_busy_or_not_costs_nothing_and_of_the_dead_raises(tmp_path):
    busy, idle = Actor.remote(), Actor.remote()
    working = busy.work.remote(f"{tmp_path}/done")
    watch = Watch([("a worker", actor.__ray_ready__.remote) for actor in (busy, idle)])
    start = time.monotonic()
    for _ in range(10):
        watch.check()
    assert time.monotonic() - start < 1
    (tmp_path / "done").touch()
    ray.get(working)
    watch.check()

    ray.kill(idle)
    with pytest.raises(RuntimeError, match="a worker has died"):
        until = time.monotonic() + 30
        while time.monotonic() < until:
            watch.check()
    watch.check()


def test_there_may_be_nothing_to_watch():
    Watch([]).check()


@ray.remote(num_cpus=0)
class Server:
    """A server of verl's: it lives on when the engine, which is another process, has died."""

    def __init__(self, **engine):
        self.engine = SimpleNamespace(**engine)

    async def generate(self):
        pass

    def die(self):
        self.engine.errored = True


@pytest.mark.usefixtures("pinging_always")
def test_a_server_whose_engine_has_died_counts_as_dead():
    server, other = Server.remote(errored=False, dead_error=LookupError("engine")), Server.remote()
    watch = Watch([("a server", partial(each.__ray_call__.remote, check_engine)) for each in (server, other)])
    ray.get([server.generate.remote(), other.generate.remote()])
    watch.check()
    ray.get(server.die.remote())
    with pytest.raises(RuntimeError, match="a server has died") as raised:
        until = time.monotonic() + 30
        while time.monotonic() < until:
            watch.check()
    assert isinstance(raised.value.__cause__.cause, LookupError)


def ask_engine(answer: Callable, dead: bool) -> object:
    client = SimpleNamespace(resources=SimpleNamespace(engine_dead=dead))
    return asyncio.run(waiting.fail_with_engine(answer, client, (), {}))


@pytest.mark.parametrize("dead", [False, True])
def test_a_call_to_vllms_engine_returns_what_it_returns_however_the_engine_is_by_then(dead):
    assert ask_engine(lambda: asyncio.sleep(0, "weights"), dead) == "weights"


def test_a_call_that_fails_fails_with_its_own_error():
    async def fail():
        raise LookupError

    with pytest.raises(LookupError):
        ask_engine(fail, dead=False)


def test_a_call_to_vllms_engine_that_is_open_as_the_engine_dies_raises():
    exceptions = pytest.importorskip("vllm.v1.engine.exceptions")
    with pytest.raises(exceptions.EngineDeadError):
        ask_engine(lambda: asyncio.sleep(600), dead=True)
