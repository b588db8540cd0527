"""Whether the program in a response passes every test of its problem.

A program is graded on what it answers, outside its sandbox: each test is a new sandbox that knows the program and this
test's input, and returns bytes. Expected outputs never enter it and no verdict leaves it, so that a program has nothing
to forge: whatever channel it writes to, only the right answer to this input is right, and it cannot prepare a later
test, because nothing of it lives on.
"""

import json
import time
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from functools import partial
from pathlib import Path
from typing import Any

from balanced_agg.rewards import places, sandbox, sandbox_fusion
from balanced_agg.rewards.code_blocks import last_program
from balanced_agg.rewards.errors import GraderFailed
from balanced_agg.rewards.program_tests import find_tests
from balanced_agg.rewards.sandbox import Limits

# Of a program's own time, in which it runs or sleeps: how long it waits for a core is no fault of its own.
TEST_SECONDS = 6.0  # LiveCodeBench's limit, by the clock
PROGRAM_SECONDS = 180.0  # over all tests; LiveCodeBench has none but the tests' together
# Of one call of `grade_code`, all waiting included. reward.timeout must be longer; 300 is its default.
GRADE_SECONDS = 290.0
RUNNER = Path(__file__).with_name("code_runner.py").read_text(encoding="utf-8")


def grade_code(
    response: str,
    ground_truth: str,
    *,
    tests_folders: Sequence[str] = (),
    sandbox_fusion_url: str | None = None,
    sandbox_fusion_max_concurrent: int = 64,
    sandbox_fusion_memory_mb: int = 1024,
    allow_unsandboxed_code: bool = False,
) -> bool:
    """Whether the program in `response` passes all tests of `ground_truth`; without a program, it does not.

    `ground_truth` holds the tests (`program_tests.read_tests`), or refers to a file of them that is in one of
    `tests_folders` (`packed_tests`); they are read once the program has its place.

    A test fails on another answer than the expected one, on an uncaught exception, and beyond its limits (6 s, 2 GiB of
    address space, 64 threads, no second process, no files); the first failed test is the last one run, and tests that
    take more than PROGRAM_SECONDS together fail. With `sandbox_fusion_url` programs run there and nowhere else, under
    the limits of that service, at most `sandbox_fusion_max_concurrent` at once for each process.

    Only what a program runs or sleeps counts against it. It waits once for a core, which it keeps for all its tests and
    shares with no other program; and no test starts so late that the call could take more than GRADE_SECONDS. So it is
    the program that fails, by its own time, or the grader, by waiting, also for a core that others than programs use: a
    `reward.timeout` above GRADE_SECONDS strikes neither.

    ValueError for a ground truth that holds no tests, or refers to tests that are not there or have changed; for a
    number of `sandbox_fusion_max_concurrent` or `sandbox_fusion_memory_mb` below 1; and where there is no sandbox (see
    `sandbox.check_sandbox`).
    GraderFailed if the sandbox, the service or the disk failed, not the program, or the time was spent waiting for
    them.
    """
    end = time.monotonic() + GRADE_SECONDS
    last_start = end - sandbox.START_SECONDS - TEST_SECONDS
    for key, number in (
        ("sandbox_fusion_max_concurrent", sandbox_fusion_max_concurrent),
        ("sandbox_fusion_memory_mb", sandbox_fusion_memory_mb),
    ):
        if number < 1:
            raise ValueError(f"reward_kwargs.{key}={number}: set it to at least 1")
    read_tests = find_tests(ground_truth, tests_folders)
    program = last_program(response)
    if program is None:
        return False
    if sandbox_fusion_url:
        place = sandbox_fusion.place(last_start, sandbox_fusion_url, sandbox_fusion_max_concurrent)
        execute = partial(sandbox_fusion.execute, url=sandbox_fusion_url)
        memory_bytes = sandbox_fusion_memory_mb * 2**20
    else:
        place = places.place(last_start)
        execute = partial(sandbox.execute, allow_unsandboxed=allow_unsandboxed_code)
        memory_bytes = Limits.memory_bytes
    seconds = 0.0
    with place as core:
        tests, fn_name = read_tests()
        script = f"{RUNNER}\n\nrun({program!a}, {fn_name!r})\n"
        for number, (stdin, text) in enumerate(tests):
            expected = text if fn_name is None else json.loads(text)
            if time.monotonic() > last_start:
                raise GraderFailed(f"no time was left after {number} of {len(tests)} tests, which took {seconds:.0f} s")
            # An output of more than twice the expected length is wrong, whatever its white space.
            output_bytes = 2**20 + 2 * len(json.dumps(expected))
            limits = Limits(TEST_SECONDS, memory_bytes, output_bytes, core, end)
            execution = execute(script, stdin.encode(), limits)
            seconds += execution.seconds
            if not execution.completed or seconds > PROGRAM_SECONDS:
                return False
            if not (same_text if fn_name is None else same_value)(execution.output, expected):
                return False
    return True


def same_text(output: bytes, expected: str) -> bool:
    """Whether the lines are equal, as stripped text or as lists of decimal numbers; outer blank lines do not count.

    LiveCodeBench's comparison (lcb_runner/evaluation/testing_util.py): numbers must be exactly equal, 1.0 and 1 are.
    """
    lines = output.decode(errors="replace").strip().split("\n")
    expected_lines = expected.strip().split("\n")
    return len(lines) == len(expected_lines) and all(map(_same_line, lines, expected_lines))


def _same_line(line: str, expected: str) -> bool:
    if line.strip() == expected.strip():
        return True
    try:
        return [Decimal(token) for token in line.split()] == [Decimal(token) for token in expected.split()]
    except InvalidOperation:  # no number, or a signalling NaN
        return False


def same_value(output: bytes, expected: Any) -> bool:
    """Whether `output` is JSON for `expected`; in JSON tuples are lists."""
    try:
        return json.loads(output) == expected
    except (ValueError, RecursionError):
        return False
