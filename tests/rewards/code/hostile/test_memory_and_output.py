"""A hostile program has the memory and the output that its limits say, and no more."""

import pytest

from tests.rewards.code.hostile.outside import MIB, lines, run, run_watched
from tests.rewards.code.hostile.programs import CALL


@pytest.mark.parametrize(
    "bomb",
    [
        "held = []\nwhile True: held.append(bytearray(2**22))",
        "b'x' * 2**40",
        "[0] * 2**40",
        "import mmap\nheld = []\nwhile True: held.append(mmap.mmap(-1, 2**22)); held[-1].write(b'x' * 2**22)",
        pytest.param("class A:\n    pass\nheld = None\nwhile True: held = [held, A()]", marks=pytest.mark.slow),
    ],
)
def test_a_memory_bomb_stays_within_the_limit(bomb):
    execution, peak = run_watched("import time; time.sleep(0.2)\n" + bomb, memory_bytes=256 * MIB)
    assert not execution.completed
    assert peak.resident_bytes <= 256 * MIB


def test_no_memory_is_to_be_had_outside_the_address_space():
    output = lines(
        run(
            CALL
            + """
import os
from multiprocessing import shared_memory
def attempt(way):
    try:
        print("got", way())
    except (OSError, ValueError) as error:
        print(type(error).__name__)
attempt(lambda: os.memfd_create("x"))
attempt(lambda: shared_memory.SharedMemory(create=True, size=2**20))
attempt(lambda: open("/dev/shm/x", "w"))
shmget, msgget = ctypes.CDLL(None).shmget, ctypes.CDLL(None).msgget
print(shmget(0, 2**20, 0o1600), msgget(0, 0o1600))
pipes = []
try:
    while True:
        pipes.append(os.pipe())
except OSError:
    print(len(pipes))
"""
        )
    )
    assert output[:4] == ["PermissionError", "OSError", "OSError", "-1 -1"]
    assert int(output[4]) < 32


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
@pytest.mark.slow
def test_infinite_output_fills_neither_memory_nor_disk(stream):
    execution = run(f"import sys\nwhile True: sys.{stream}.write('x' * 10**6)", seconds=2.0, output_bytes=MIB)
    assert not execution.completed
    assert len(execution.output) == (MIB if stream == "stdout" else 0)


def test_an_output_at_the_limit_is_whole():
    execution = run(f"print('x' * {MIB - 1})", output_bytes=MIB)
    assert execution.completed and len(execution.output) == MIB
