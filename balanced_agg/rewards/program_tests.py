"""The tests of a program: as its ground truth holds them, or, of a reference, as this process has last read them."""

import json
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from balanced_agg.rewards import packed_tests
from balanced_agg.rewards.packed_tests import Reference

# Of tests that are kept for the next response to the same problem, in each process that grades. Those that are being
# run are in memory besides, of one problem on each core.
CACHE_BYTES = 2**27


class ProgramTests(NamedTuple):
    """`tests` are pairs of standard input and expected output, which with a `fn_name` is JSON."""

    tests: list[tuple[str, str]]
    fn_name: str | None


def read_tests(ground_truth: str) -> ProgramTests:
    """The tests of {"inputs", "outputs", "fn_name"}.

    An input is a text, or a list: of lines, with a `fn_name` of arguments. An output is a text, with a `fn_name` in
    JSON, or a list of lines, with a `fn_name` any other JSON value. ValueError for anything else, and for no test.
    """
    try:
        record = json.loads(ground_truth)
        inputs, outputs, fn_name = record["inputs"], record["outputs"], record.get("fn_name")
        tests = []
        for given, expected in zip(inputs, outputs, strict=True):
            if fn_name is None:
                expected = _lines(expected)
            else:
                given = given if isinstance(given, str) else [json.dumps(argument) for argument in given]
                expected = expected if isinstance(expected, str) else json.dumps(expected)
                json.loads(expected)
            tests.append((_lines(given), expected))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(
            'ground_truth must be JSON {"inputs": […], "outputs": […], "fn_name": name or null}, or refer to a file of '
            f"such: {error!r}"
        ) from error
    if not tests:
        raise ValueError("ground_truth has no tests, so that every program would pass them")
    return ProgramTests(tests, fn_name)


def _lines(text: str | list[str]) -> str:
    return text if isinstance(text, str) else "\n".join(text)


def find_tests(ground_truth: str, folders: Sequence[str]) -> Callable[[], ProgramTests]:
    """What reads the tests of a ground truth, once it is known that they are there.

    ValueError for a ground truth that neither holds tests nor refers to tests in one of the folders; from reading, too,
    if they have changed, and GraderFailed if the disk fails.
    """
    reference = packed_tests.reference_in(ground_truth)
    if reference is None:
        tests = read_tests(ground_truth)
        return lambda: tests
    path = packed_tests.find(reference, folders)
    return lambda: _cache.get(reference, path)


class Cache:
    """The tests that were last asked for, of at most `most_bytes` together. Safe to call from many threads at once."""

    def __init__(self, most_bytes: int):
        self._most_bytes, self._bytes = most_bytes, 0
        self._kept: OrderedDict[str, tuple[int, ProgramTests]] = OrderedDict()
        # Held while tests are read, so that those who wait for the same ones get the same objects.
        self._lock = threading.Lock()

    def get(self, reference: Reference, path: Path) -> ProgramTests:
        """The tests that `packed_tests.read` reads; same errors."""
        with self._lock:
            if reference.sha256 in self._kept:
                self._kept.move_to_end(reference.sha256)
                return self._kept[reference.sha256][1]
            found = read_tests(packed_tests.read(reference, path))
            size = sum(map(sys.getsizeof, (text for test in found.tests for text in test)))
            if size <= self._most_bytes:
                self._kept[reference.sha256] = size, found
                self._bytes += size
                while self._bytes > self._most_bytes:
                    self._bytes -= self._kept.popitem(last=False)[1][0]
            return found


_cache = Cache(CACHE_BYTES)
