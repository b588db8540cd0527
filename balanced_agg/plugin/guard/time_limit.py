"""A reward function with a time limit, whatever it hangs in. Standard library only."""

import asyncio
import ctypes
import faulthandler
import inspect
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

# How long all Python in this process may stand still beyond a call's limit, and how often it shows that it does not.
FREEZE_GRACE_SECONDS = 30.0
PULSE_SECONDS = 1.0


def with_time_limit(function: Callable, seconds: float) -> Callable:
    """The function, raising TimeoutError where one call takes longer than `seconds`; async if it is async.

    A call of a synchronous function counts from its own start, in a daemon thread of its own. At the limit the thread
    is told to exit, which ends loops in Python; one that is blocked in a system call stays behind, and costs memory.
    """

    async def limited_coroutine(*args: Any, **kwargs: Any) -> Any:
        call = asyncio.ensure_future(function(*args, **kwargs))
        done, _ = await asyncio.wait([call], timeout=seconds)
        if done:
            return call.result()
        call.cancel()  # and not waited for: it may ignore that
        raise _no_score(seconds)

    def limited(*args: Any, **kwargs: Any) -> Any:
        result: Future = Future()

        def fulfil() -> None:
            try:
                result.set_result(function(*args, **kwargs))
            except BaseException as error:  # also SystemExit: a function that exits has given no score
                result.set_exception(error if isinstance(error, Exception) else RuntimeError(repr(error)))

        thread = threading.Thread(target=fulfil, name="reward function", daemon=True)
        thread.start()
        try:
            return result.result(seconds)
        except TimeoutError:
            if result.done():  # the function's own
                raise
            thread_id = ctypes.c_ulong(thread.ident or 0)  # it has one, since it has started
            ctypes.pythonapi.PyThreadState_SetAsyncExc(thread_id, ctypes.py_object(SystemExit))
            raise _no_score(seconds) from None

    return limited_coroutine if inspect.iscoroutinefunction(function) else limited


def _no_score(seconds: float) -> TimeoutError:
    return TimeoutError(f"no score within {seconds:g} s (reward.timeout)")


def end_if_frozen(seconds: float) -> None:
    """From now on, end this process with every thread's traceback once no Python has run in it for `seconds`.

    A regular expression that backtracks for ever holds the interpreter, and with it every limit set in Python. Only
    a timer outside of Python, which a thread keeps putting off, notices.
    """

    def put_off() -> None:
        while True:
            faulthandler.dump_traceback_later(seconds, exit=True)
            time.sleep(PULSE_SECONDS)

    threading.Thread(target=put_off, name="pulse", daemon=True).start()
