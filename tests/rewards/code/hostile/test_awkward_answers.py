"""Awkward answers and programs are wrong, and nothing worse."""

import pytest

from balanced_agg.rewards import code
from tests.rewards.code.hostile.outside import MIB, grade


@pytest.mark.slow
@pytest.mark.parametrize(
    "value",
    [
        "[0] * 10**7",
        "'x' * 10**8",
        "10**40000",
        "float('inf')",
        "'\\0' * 10",
        "'\\ud800'",
        "b'x'",
        "range(10**9)",
        "__import__('functools').reduce(lambda a, _: [a], range(900), 0)",
    ],
)
def test_an_awkward_value_is_a_wrong_value(value):
    assert not grade(f"def f(x):\n    return {value}", ["1"], ["42"], "f")


@pytest.mark.parametrize(
    "output",
    [
        b"[" * 10**5,
        b"[" * 10**5 + b"]" * 10**5,
        b"9" * 10**6,
        b"\xff\xfe",
        b"\0",
        b'{"a":' * 10**5,
        b"1e999",
        b"-",
        b"",
    ],
)
def test_an_awkward_output_is_a_wrong_output(output):
    assert not code.same_value(output, 42)
    assert not code.same_text(output, "42")


@pytest.mark.slow
@pytest.mark.parametrize(
    "program",
    [
        "def f():\n    f()\nf()",
        "import sys\nsys.setrecursionlimit(10**9)\ndef f():\n    f()\nf()",
        "print(" + "(" * 10**5 + ")" * 10**5 + ")",
        "x = " + "-" * 10**5 + "1",
        "print(42)\0",
        "\ud800",
        "\ufeff\u202eprint(42)",
        "9" * 10**5,
        "raise BaseException",
        "import sys\nsys.stdout.close()",
        "import sys\nsys.stdout = None\nprint(42)",
        "print('4' * 10**6 + '2')",
    ],
)
def test_an_awkward_program_is_a_wrong_program(program, monkeypatch):
    monkeypatch.setattr(code, "TEST_SECONDS", 2.0)
    assert not grade(program, ["1"], ["42"])


def test_a_program_of_a_megabyte_runs():
    assert grade(f"x = '{'é' * MIB}'\nprint(len(x))", ["1"], [str(MIB)])


def test_an_infinite_loop_at_import_ends_at_the_deadline(monkeypatch):
    monkeypatch.setattr(code, "TEST_SECONDS", 1.0)
    assert not grade("while True: pass\ndef f(x):\n    return 42", ["1"], ["42"], "f")
