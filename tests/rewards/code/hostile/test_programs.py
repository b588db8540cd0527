"""No hostile program scores, reads an expected answer, reaches another process or the network, stays, or stalls."""

import os
import secrets
import socket
import subprocess
import time
from pathlib import Path

import pytest

from balanced_agg.rewards import code, sandbox
from balanced_agg.rewards.sandbox import START_SECONDS, Limits
from tests.rewards.code.hostile.outside import MIB, Watch, grade, processes_named
from tests.rewards.code.hostile.programs import PROGRAMS

# Of each aim one that is over at once.
FAST = {
    "patches what the harness uses",
    "reads around the interpreter",
    "reads facts about this machine",
    "makes sockets of all families",
    "locks files of this machine",
    "splices pages into pipes",
    "scatters its pages",
}
TEST_SECONDS = 2.0
MEMORY_BYTES = 256 * MIB


@pytest.fixture
def listeners():
    """A TCP and an abstract UNIX socket, which nobody is to reach."""
    with socket.create_server(("0.0.0.0", 0)) as tcp, socket.socket(socket.AF_UNIX) as unix:
        unix.bind(f"\0{secrets.token_hex(8)}")
        unix.listen()
        yield tcp, unix
        for listener in (tcp, unix):
            listener.setblocking(False)
            with pytest.raises(BlockingIOError):
                listener.accept()


@pytest.fixture
def secret(tmp_path, monkeypatch):
    """A word in a file, in the environment, and in that of another process, whose number is yielded, too."""
    word = secrets.token_hex(16)
    (tmp_path / "secret").write_text(word)
    monkeypatch.setenv("WANDB_API_KEY", word)
    with subprocess.Popen(["sleep", "1000"], env={"TOKEN": word}) as bystander:
        yield word, tmp_path / "secret", bystander.pid
        assert bystander.poll() is None
        bystander.kill()


def test_there_are_as_many_kinds_as_the_documentation_says():
    page = (Path(__file__).parents[4] / "docs" / "rewards.md").read_text()
    assert f"{len(PROGRAMS)} kinds of hostile program" in page
    assert set(PROGRAMS) > FAST and 10 * len(FAST) >= len(PROGRAMS)


@pytest.mark.parametrize(
    "name", [name if name in FAST else pytest.param(name, marks=pytest.mark.evidence) for name in PROGRAMS]
)
def test_a_hostile_program_gets_nothing_and_leaves_nothing(name, secret, listeners, monkeypatch):
    program = PROGRAMS[name]
    if program.x86_64 and os.uname().machine != "x86_64":
        pytest.skip("its system call numbers are those of x86_64")
    sandbox.check_sandbox()
    word, file, bystander = secret
    named = {
        "SECRET_FILE": file,
        "PORT": listeners[0].getsockname()[1],
        "ABSTRACT": listeners[1].getsockname()[1:].decode(),
    }
    named |= {"PID": bystander, "FOLDER": Path(code.__file__).parents[2]}
    text = program.text
    for key, value in named.items():
        text = text.replace(f"@{key}@", str(value))
    expected = [f"expected-{secrets.token_hex(12)}" for _ in range(2)]

    seen = []
    execute = sandbox.execute
    monkeypatch.setattr(sandbox, "execute", lambda *args, **kwargs: seen.append(execute(*args, **kwargs)) or seen[-1])
    monkeypatch.setattr(code, "TEST_SECONDS", TEST_SECONDS)
    monkeypatch.setattr(Limits, "memory_bytes", MEMORY_BYTES)
    start = time.monotonic()
    with Watch() as watch:
        if program.fn_name:
            right = grade(watch.introduce + text, ["1", "2"], [f'"{answer}"' for answer in expected], program.fn_name)
        else:
            right = grade(watch.introduce + text, ["1", "2"], expected)
    assert not right
    assert not processes_named(watch.name)
    assert time.monotonic() - start < TEST_SECONDS + START_SECONDS
    assert watch.peak.processes <= 1 and watch.peak.threads <= sandbox.THREADS and "0" not in watch.peak.uids
    assert watch.peak.resident_bytes <= MEMORY_BYTES
    (execution,) = seen
    assert execution.seconds < TEST_SECONDS + 10  # on a busy machine the grader may be late
    output = execution.output.decode(errors="replace")
    assert "GOT" not in output, output[:2000]
    assert not [answer for answer in (word, *expected) if answer in output]
