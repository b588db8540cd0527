"""What a program must do to be right."""

import functools
import json
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from balanced_agg.rewards import bubblewrap, code, places, sandbox
from balanced_agg.rewards.code import grade_code, same_text
from balanced_agg.rewards.errors import GraderFailed

ADD = "a, b = map(int, input().split())\nprint(a + b)"
TWO_SUM = """
class Solution:
    def twoSum(self, nums: List[int], target: int) -> List[int]:
        seen = defaultdict(int)
        for i, x in enumerate(nums):
            if target - x in seen:
                return (seen[target - x], i)
            seen[x] = i
"""


def fenced(program):
    return f"Here it is.\n```python\n{program}\n```\n"


def grade(program, inputs, outputs, fn_name=None):
    return grade_code(fenced(program), json.dumps({"inputs": inputs, "outputs": outputs, "fn_name": fn_name}))


def test_a_response_without_a_program_is_wrong():
    assert not grade_code("print(3)", json.dumps({"inputs": ["1 2"], "outputs": ["3"], "fn_name": None}))


# --- programs on standard input


def test_a_right_program_passes_and_a_wrong_one_fails():
    assert grade(ADD, ["1 2\n", "3 4\n"], ["3\n", "7\n"])
    assert not grade(ADD.replace("+", "-"), ["1 2\n", "3 4\n"], ["3\n", "7\n"])


def test_one_failed_test_fails_the_program():
    assert not grade(ADD, ["1 2", "3 4", "5 6"], ["3", "7", "12"])


def test_no_test_runs_after_a_failed_one(monkeypatch):
    runs = []
    execute = sandbox.execute
    monkeypatch.setattr(sandbox, "execute", lambda *args, **kwargs: runs.append(args) or execute(*args, **kwargs))
    assert not grade(ADD, ["1 2", "3 4", "5 6"], ["3", "8", "11"])
    assert len(runs) == 2


@pytest.mark.parametrize(
    "program",
    [
        "import sys\na, b = map(int, sys.stdin.buffer.read().split())\nprint(a + b)",
        "a, b = map(int, open(0).read().split())\nprint(a + b)",
        "a, b = map(int, open('/dev/stdin').read().split())\nprint(a + b)",
        "import os\na, b = map(int, os.read(0, os.fstat(0).st_size).split())\nos.write(1, b'%d' % (a + b))",
        "def main():\n    a, b = map(int, input().split())\n    print(a + b)\nif __name__ == '__main__':\n    main()",
        f"{ADD}\nexit()\nprint('no')",
        f"import sys\n{ADD}\nsys.exit(1)",
        f"import os, sys\n{ADD}\nsys.stdout.flush()\nos._exit(0)",
        f"from __future__ import annotations\n{ADD}",
        "from dataclasses import dataclass\n@dataclass\nclass P:\n    a: 'int'\n    b: 'int'\n"
        "p = P(*map(int, input().split()))\nprint(p.a + p.b)",
        "import sys, threading\nsys.setrecursionlimit(10**6)\nthreading.stack_size(2**27)\n"
        "def down(n):\n    return down(n - 1) + 1 if n else 0\n"
        "def main():\n    a, b = map(int, input().split())\n    print(a + b + down(10**5) - 10**5)\n"
        "thread = threading.Thread(target=main)\nthread.start()\nthread.join()",
        "@lru_cache(None)\ndef down(n):\n    return down(n - 1) + 1 if n else 0\n"
        "a, b = map(int, input().split())\nprint(a + b + down(20000) - 20000)",
        "import numpy as np\nprint(np.array(input().split(), dtype=int).sum())",
        "from sortedcontainers import SortedList\nprint(sum(SortedList(map(int, input().split()))))",
    ],
)
def test_the_usual_ways_to_write_a_program_work(program):
    assert grade(program, ["1 2\n"], ["3\n"])


@pytest.mark.parametrize(
    "program",
    [
        f"{ADD}\nraise ValueError",
        f"{ADD}\n1 / 0",
        f"{ADD}\nimport os\nos._exit(3)",
        "print(3",
        "def f(:",
        "print(3)\n\0",
    ],
)
def test_a_program_that_fails_is_wrong_whatever_it_printed(program):
    assert not grade(program, ["1 2"], ["3"])


def test_inputs_and_outputs_may_be_lists_of_lines():
    assert grade("print(input())\nprint(input())", [["1", "2"]], [["1", "2"]])


@pytest.mark.parametrize(
    ("output", "expected", "same"),
    [
        ("1 2\n3\n", "1 2\n3", True),
        ("  1 2 \n 3", "1 2\n3\n\n", True),
        ("1  2", "1 2", True),
        ("a  b", "a b", False),
        ("1.0", "1", True),
        ("0.30000000000000004", "0.3", False),
        ("50000000000000001", "50000000000000000", False),
        ("1\n2", "1 2", False),
        ("1", "1\n1", False),
        ("Yes", "YES", False),
        ("nan", "nan", True),
        ("sNaN", "1", False),
        ("1e999999999999999999999", "1", False),
        ("1e999999999", "2e999999999", False),
        ("", "", True),
        ("", "0", False),
    ],
)
def test_lines_are_compared_as_stripped_text_or_exact_numbers(output, expected, same):
    assert same_text(output.encode(), expected) is same


# --- functions


@pytest.mark.parametrize(
    "program",
    [TWO_SUM, "def twoSum(nums, target):\n    print('hello')\n    return [0, nums.index(target - nums[0])]"],
)
def test_a_method_of_solution_or_a_plain_function_is_called_with_json_arguments(program):
    assert grade(program, ["[2, 7, 11, 15]\n9", [[3, 4], 7]], ["[0, 1]", [0, 1]], "twoSum")


@pytest.mark.parametrize(
    "end",
    [
        "if __name__ == '__main__':\n    raise AssertionError",
        "if __name__ != '__main__':\n    pass\nelse:\n    main(input())",
        "def main():\n    print(twoSum(*map(int, input().split())))\nif __name__ == '__main__': main()",
        "exit()",
        "quit(1)",
        "import sys\nsys.exit('done')",
        "print(Solution().twoSum([1, 2], 3))\nraise SystemExit\nmain()",
        "@dataclass\nclass Pair:\n    left: 'int'",
        "import pickle\nassert pickle.loads(pickle.dumps(Solution)) is Solution",
    ],
)
def test_what_a_program_does_when_it_is_run_loses_no_answer_of_a_function(end):
    assert grade(f"from dataclasses import dataclass\n{TWO_SUM}\n{end}", ["[2, 7]\n9"], ["[0, 1]"], "twoSum")


@pytest.mark.parametrize("end", ["1 / 0", "sys.exit()\n"])
def test_an_import_that_fails_or_exits_before_the_function_is_wrong(end):
    assert not grade(f"import sys\n{end}\n{TWO_SUM}", ["[2, 7]\n9"], ["[0, 1]"], "twoSum")


def test_a_function_that_exits_has_no_value():
    assert not grade("def f(x):\n    print(1)\n    raise SystemExit(0)", ["0"], ["1"], "f")


def test_a_wrong_value_is_wrong():
    assert not grade(TWO_SUM, ["[2, 7, 11, 15]\n9"], ["[1, 0]"], "twoSum")


@pytest.mark.parametrize(
    "value", ["[1, [2, 3]]", "(1, (2, 3))", "[1.0, [2, 3]]", "[np.int64(1), list(np.array([2, 3]))]"]
)
def test_tuples_and_numpy_numbers_equal_lists_and_numbers(value):
    assert grade(f"import numpy as np\ndef f(x):\n    return {value}", ["0"], ["[1, [2, 3]]"], "f")


@pytest.mark.parametrize("value", ["'[1, [2, 3]]'", "{1, 2}", "None", "[1, [2, 3], 4]", "object()", "float('nan')"])
def test_other_values_are_wrong(value):
    assert not grade(f"def f(x):\n    return {value}", ["0"], ["[1, [2, 3]]"], "f")


def test_a_name_of_the_prelude_does_not_hide_the_method():
    assert grade("class Solution:\n    def count(self, x: int) -> int:\n        return x + 1", ["1"], ["2"], "count")


def test_a_program_without_the_function_is_wrong():
    assert not grade("def g(x):\n    return 1", ["0"], ["1"], "f")


# --- the ground truth


@pytest.mark.parametrize(
    "ground_truth",
    [
        "42",
        "not json",
        json.dumps({"inputs": ["1"]}),
        json.dumps({"inputs": ["1"], "outputs": []}),
        json.dumps({"inputs": [], "outputs": []}),
        json.dumps({"inputs": ["1"], "outputs": ["not json"], "fn_name": "f"}),
        json.dumps({"inputs": [1], "outputs": ["1"], "fn_name": None}),
    ],
)
def test_a_ground_truth_without_usable_tests_is_refused(ground_truth):
    with pytest.raises(ValueError, match="ground_truth"):
        grade_code(fenced(ADD), ground_truth)


# --- limits and refusals


def test_a_program_over_its_time_is_wrong(monkeypatch):
    monkeypatch.setattr(code, "TEST_SECONDS", 1.0)
    assert not grade("import time\nprint(3, flush=True)\ntime.sleep(1000)", ["1 2"], ["3"])


def test_tests_that_pass_but_take_too_long_together_are_wrong(monkeypatch):
    monkeypatch.setattr(code, "PROGRAM_SECONDS", 0.0)
    assert not grade(ADD, ["1 2"], ["3"])


@pytest.fixture
def no_sandbox(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    sandbox._sandbox_problem.cache_clear()
    sandbox._warn_unsandboxed.cache_clear()
    yield
    monkeypatch.undo()
    sandbox._sandbox_problem.cache_clear()


def test_without_bubblewrap_nothing_runs_and_the_error_says_what_to_do(no_sandbox):
    with pytest.raises(ValueError, match=r"(?s)apt-get install bubblewrap.*allow_unsandboxed_code=True"):
        grade(ADD, ["1 2"], ["3"])


def test_a_sandbox_without_the_packages_that_programs_import_is_none(monkeypatch):
    for module in (bubblewrap, sandbox):
        monkeypatch.setattr(module, "PACKAGES", ("numpy", "no_such_package"))
    assert "pip install no_such_package" in sandbox._sandbox_problem.__wrapped__()


def test_a_sandbox_of_an_interpreter_that_does_not_say_what_it_needs_is_none(monkeypatch, tmp_path):
    monkeypatch.setattr(bubblewrap, "PARTS", tmp_path / "nothing.py")
    for cached in ("_parts", "_mounts", "_hidden_folders"):
        monkeypatch.setattr(bubblewrap, cached, functools.cache(getattr(bubblewrap, cached).__wrapped__))
    assert "does not say what it needs" in sandbox._sandbox_problem.__wrapped__()


def test_allowed_to_run_unsandboxed_it_warns_once_and_grades(no_sandbox, caplog):
    truth = json.dumps({"inputs": ["1 2", "2 3"], "outputs": ["3", "5"], "fn_name": None})
    assert grade_code(fenced(ADD), truth, allow_unsandboxed_code=True)
    assert not grade_code(fenced("print(3)"), truth, allow_unsandboxed_code=True)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "NO SANDBOX" in caplog.text


def test_a_sandbox_that_does_not_start_is_a_failed_grader_not_a_wrong_answer(monkeypatch):
    sandbox.check_sandbox()
    monkeypatch.setattr(sandbox, "START_SECONDS", 0.0)
    with pytest.raises(GraderFailed, match="did not start"):
        grade(ADD, ["1 2"], ["3"])


def test_many_threads_grade_at_once():
    with ThreadPoolExecutor(8) as threads:
        right = [threads.submit(grade, ADD, [f"{i} 1"], [str(i + 1)]) for i in range(8)]
        wrong = [threads.submit(grade, ADD, [f"{i} 1"], [str(i)]) for i in range(8)]
    assert all(future.result() for future in right)
    assert not any(future.result() for future in wrong)


def test_no_more_sandboxes_run_at_once_than_there_are_cores(monkeypatch):
    monkeypatch.setattr(places.os, "sched_getaffinity", lambda pid: {0, 1})
    lock, running, most = threading.Lock(), [0], [0]
    real = sandbox._execute

    def counted(*args, **kwargs):
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        try:
            return real(*args, **kwargs)
        finally:
            with lock:
                running[0] -= 1

    monkeypatch.setattr(sandbox, "_execute", counted)
    with ThreadPoolExecutor(6) as threads:
        graded = [threads.submit(grade, ADD, ["1 2"], ["3"]) for _ in range(6)]
    assert all(future.result() for future in graded)
    assert most[0] <= 2
