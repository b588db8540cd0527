"""A reward function that hangs costs its own call, whatever it hangs in."""

import asyncio
import inspect
import re
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from balanced_agg.plugin.guard.time_limit import with_time_limit

SHORT, LONG = 0.2, 60.0  # seconds; no test waits for the second


def test_results_and_errors_pass_through_and_an_asynchronous_function_stays_one():
    def function(number, *, plus):
        return 1 / number + plus

    async def asynchronous(number, *, plus):
        return function(number, plus=plus)

    limited, awaited = with_time_limit(function, LONG), with_time_limit(asynchronous, LONG)
    assert inspect.iscoroutinefunction(awaited)
    for call in (limited, lambda *args, **kwargs: asyncio.run(awaited(*args, **kwargs))):
        assert call(2, plus=1) == 1.5
        with pytest.raises(ZeroDivisionError):
            call(0, plus=1)


def test_a_functions_own_timeout_is_its_own():
    def function():
        raise TimeoutError("of the reward service")

    with pytest.raises(TimeoutError, match="of the reward service"):
        with_time_limit(function, LONG)()


def test_a_function_that_exits_is_an_error_of_its_own():
    with pytest.raises(RuntimeError, match="SystemExit"):
        with_time_limit(sys.exit, LONG)()


def test_a_blocked_call_ends_at_the_limit():
    with pytest.raises(TimeoutError, match=r"no score within 0.2 s \(reward.timeout\)"):
        with_time_limit(threading.Event().wait, SHORT)()


def test_a_loop_that_never_ends_is_ended():
    ended = threading.Event()

    def spin():
        try:
            while True:
                pass
        finally:
            ended.set()

    with pytest.raises(TimeoutError):
        with_time_limit(spin, SHORT)()
    assert ended.wait(LONG)


def test_an_asynchronous_call_that_ignores_its_cancellation_ends_at_the_limit():
    async def stubborn():
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                if released:
                    raise

    released = []

    async def main():
        with pytest.raises(TimeoutError, match="no score"):
            await with_time_limit(stubborn, SHORT)()
        released.append(True)

    asyncio.run(main())


def test_calls_run_side_by_side():
    meeting = threading.Barrier(8)
    limited = with_time_limit(meeting.wait, LONG)
    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(lambda _: limited(LONG), range(8))) == list(range(8))


def test_asynchronous_calls_run_side_by_side():
    async def main():
        meeting = asyncio.Barrier(8)
        return await asyncio.gather(*(with_time_limit(meeting.wait, LONG)() for _ in range(8)))

    assert sorted(asyncio.run(main())) == list(range(8))


FREEZE = """
import re
from balanced_agg.plugin.guard.time_limit import end_if_frozen
end_if_frozen(2)
def frozen_reward():
    re.fullmatch("(a+)+", "a" * 60 + "b")
frozen_reward()
"""


@pytest.mark.slow
def test_a_process_that_stands_still_ends_and_says_where():
    ended = subprocess.run([sys.executable, "-c", FREEZE], capture_output=True, text=True, timeout=LONG)
    assert ended.returncode != 0
    assert re.search(r"Timeout.*frozen_reward", ended.stderr, re.DOTALL)
