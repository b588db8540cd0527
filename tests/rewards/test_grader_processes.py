"""Claims about the processes that grade: hard limits, replacement, threads, and their end with the parent."""

import contextlib
import os
import select
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from balanced_agg.rewards import compute_score, grader_processes
from balanced_agg.rewards.errors import GraderFailed
from balanced_agg.rewards.grader_processes import GraderProcesses
from balanced_agg.rewards.grader_worker import ADDRESS_SPACE_BYTES, ALARM_SECONDS_AFTER_LIMIT
from tests.rewards.adversarial import INJECTIONS, adversarial_answers, adversarial_responses

HANGS = "9^{9^{9^{9}}}"
SLACK_SECONDS = 5.0  # for a machine that is busy with something else


@pytest.fixture(scope="module")
def graders():
    processes = GraderProcesses(2)
    yield processes
    processes.close()


def ordinary(graders: GraderProcesses, number: int = 3) -> bool:
    return graders.equals_any([rf"\frac{{x}}{{{number}}}"], rf"x \cdot {number}^{{-1}}", 0.0, time_limit=30.0)


def process_ids(graders: GraderProcesses) -> list[int]:
    return [worker._process.pid for worker in graders._idle]


def is_running(process_id: int) -> bool:
    """Whether a process exists that is no zombie."""
    try:
        return Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def ends(process_ids: list[int], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    for process_id in process_ids:
        with contextlib.suppress(ProcessLookupError):
            pidfd = os.pidfd_open(process_id)
            select.select([pidfd], [], [], max(0.0, deadline - time.monotonic()))
            os.close(pidfd)
    return not any(map(is_running, process_ids))


@pytest.fixture
def asked(monkeypatch) -> threading.Event:
    """Set when a worker has been asked something and its answer is waited for."""
    event, read = threading.Event(), grader_processes._Worker._read

    def note_and_read(worker, seconds):
        event.set()
        return read(worker, seconds)

    monkeypatch.setattr(grader_processes._Worker, "_read", note_and_read)
    return event


def test_an_answer_that_hangs_fails_at_the_limit_and_the_next_ones_are_graded(graders):
    for _ in range(3):
        assert ordinary(graders)
        start = time.monotonic()
        with pytest.raises(GraderFailed, match=r"within 0\.5 s"):
            graders.equals_any(["5"], HANGS, 0.0, time_limit=0.5)
        assert time.monotonic() - start < 0.5 + SLACK_SECONDS
    assert ordinary(graders)


@pytest.mark.slow
def test_many_threads_get_their_own_answers(graders):
    def grade(index: int) -> bool:
        return graders.equals_any([f"{index}x+1"], f"1+x*{index + index % 3}", 0.0, time_limit=30.0)

    with ThreadPoolExecutor(12) as threads:
        assert list(threads.map(grade, range(300))) == [index % 3 == 0 for index in range(300)]


@pytest.mark.slow
def test_waiting_for_a_free_process_does_not_count(asked):
    graders = GraderProcesses(1)
    with ThreadPoolExecutor(2) as threads:
        assert ordinary(graders)
        asked.clear()
        hanging = threads.submit(graders.equals_any, ["5"], HANGS, 0.0, 2.0)
        asked.wait()
        assert threads.submit(graders.equals_any, ["5"], "5", 0.0, 1.0).result()
        assert isinstance(hanging.exception(), GraderFailed)
    graders.close()


def test_a_worker_that_is_killed_while_idle_costs_no_grade(graders):
    assert ordinary(graders)
    for process_id in process_ids(graders):
        os.kill(process_id, signal.SIGKILL)
    assert ends(process_ids(graders), SLACK_SECONDS)
    assert all(ordinary(graders, number) for number in range(2, 8))


def test_a_worker_that_is_killed_at_work_costs_one_grade(graders, asked):
    assert ordinary(graders)
    idle = process_ids(graders)
    asked.clear()
    with ThreadPoolExecutor(1) as threads:
        grade = threads.submit(graders.equals_any, ["5"], HANGS, 0.0, 60.0)
        asked.wait()  # else it would count as killed while it was idle
        (busy,) = set(idle) - set(process_ids(graders))
        os.kill(busy, signal.SIGKILL)
        with pytest.raises(GraderFailed, match="died"):
            grade.result()
    assert ordinary(graders)


def test_an_exception_in_a_comparison_is_a_failed_grade_not_a_wrong_answer(graders):
    with pytest.raises(GraderFailed, match="raised"):
        graders.equals_any([5], "x", 0.0, time_limit=30.0)
    assert ordinary(graders)


def test_any_text_reaches_a_worker(graders):
    for text in ("\ud800", "\0", "é∞\U0001f600", '"\\', "x" * 300_000):
        assert graders.equals_any(["a" + text], "a" + text, 0.0, time_limit=30.0)
        assert not graders.equals_any(["a" + text], "b" + text, 0.0, time_limit=30.0)


def test_workers_have_an_address_space_limit(graders):
    assert ordinary(graders)
    for process_id in process_ids(graders)[-1:]:
        limits = Path(f"/proc/{process_id}/limits").read_text()
        assert f"Max address space         {ADDRESS_SPACE_BYTES} " in limits


def test_processes_that_cannot_start_are_an_error_and_not_a_score(monkeypatch):
    monkeypatch.setattr(grader_processes.sys, "executable", "/bin/false")
    graders = GraderProcesses(1)
    with pytest.raises(RuntimeError, match="start"):
        ordinary(graders)
    graders.close()


def test_at_least_one_process_is_needed():
    with pytest.raises(ValueError, match="processes must be at least 1, got 0"):
        GraderProcesses(0)


def test_workers_import_nothing_heavy():
    code = "import sys, balanced_agg.rewards.equality, balanced_agg.rewards.grader_worker; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "verl", "vllm", "ray", "transformers", "numpy"} & {name.partition(".")[0] for name in modules}


SCRIPT = """
import os, sys, threading
from pathlib import Path
from balanced_agg.rewards.grader_processes import GraderProcesses

with open(sys.argv[1], "a") as lines:
    lines.write("main ran\\n")
graders = GraderProcesses(2)
assert graders.equals_any(["x/2"], "0.5x", 0.0, 30.0)
print(*[worker._process.pid for worker in graders._idle], flush=True)
if sys.argv[2] == "hang":
    for _ in range(2):
        threading.Thread(target=graders.equals_any, args=(["5"], "9^{9^{9^{9}}}", 0.0, 1.0), daemon=True).start()
    while len(graders._idle) > 1:
        os.sched_yield()
    print("busy", flush=True)
    sys.stdin.read()
"""


@pytest.mark.slow
def test_a_script_without_a_main_guard_runs_once_leaves_no_process_and_prints_nothing_else(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script), str(tmp_path / "lines"), "end"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (tmp_path / "lines").read_text() == "main ran\n"
    assert done.stderr == ""
    (line,) = done.stdout.splitlines()
    assert ends([int(word) for word in line.split()], SLACK_SECONDS)


@pytest.mark.slow
def test_no_worker_survives_a_killed_parent_even_if_it_is_busy(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script), str(tmp_path / "lines"), "hang"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        process_ids = [int(word) for word in parent.stdout.readline().split()]
        assert parent.stdout.readline() == "busy\n"
        assert len(process_ids) == 3
        assert all(map(is_running, process_ids))
        parent.kill()
    assert ends(process_ids, 1.0 + ALARM_SECONDS_AFTER_LIMIT + SLACK_SECONDS)


def test_a_forked_child_starts_its_own_processes():
    shared = grader_processes.shared_processes(2)
    assert grader_processes.shared_processes(2) is shared
    child = os.fork()
    if child == 0:
        os._exit(0 if grader_processes._shared == {} else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert grader_processes.shared_processes(2) is shared


def test_answers_are_never_executed(graders, tmp_path):
    for injection in INJECTIONS:
        answer = injection.replace("MARK", str(tmp_path / "mark"))
        for gold in ("5", "x+1"):
            with contextlib.suppress(GraderFailed):
                assert not graders.equals_any([gold], answer, 0.0, time_limit=5.0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("gold", ["5", r"\frac{x^2+1}{2}"])
def test_200_adversarial_answers_each_end_and_leave_the_graders_in_order(graders, gold):
    answers = adversarial_answers()
    assert len(answers) >= 200
    failed = 0
    for answer in answers:
        assert ordinary(graders)  # a warm process, so that the limit is all that the next one takes
        start = time.monotonic()
        try:
            graders.equals_any([gold], answer, 0.0, time_limit=1.0)
        except GraderFailed:
            failed += 1
        assert time.monotonic() - start < 1.0 + SLACK_SECONDS, answer[:100]
    print(f"{failed} of {len(answers)} reached no judgement")
    assert failed < len(answers) / 4
    assert ordinary(graders)


@pytest.mark.slow
@pytest.mark.parametrize("data_source", ["math_dapo", "olympiadbench"])
def test_200_adversarial_responses_score_as_verl_expects(data_source):
    with ThreadPoolExecutor(2) as threads:
        scores = list(
            threads.map(
                lambda text: compute_score(data_source, text, "123456", time_limit=1.0), adversarial_responses()
            )
        )
    assert len(scores) >= 200
    assert all(score["score"] == score["acc"] == 0.0 for score in scores)
    assert compute_score(data_source, r"\boxed{123456}", "123456")["score"] == 1.0
