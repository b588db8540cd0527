"""A program's own time is what it runs and sleeps, whatever else runs on the machine."""

import os
import subprocess
import sys
import time

import pytest

from balanced_agg.rewards import program_time, sandbox
from balanced_agg.rewards.errors import GraderFailed
from balanced_agg.rewards.program_time import TICK_SECONDS, ProgramTime
from balanced_agg.rewards.sandbox import Limits, execute


class Process:
    """A process as /proc shows it, with a clock: `goes_on` lets time go by."""

    def __init__(self, proc, pid=7):
        self.folder = proc / str(pid)
        self.now, self.cpu = 100.0, 0.0

    def goes_on(self, seconds, cpu=0.0, states="R"):
        """So many seconds by the clock, of which it is given `cpu`; its threads are in these states at the end."""
        self.now += seconds
        self.cpu += cpu
        (self.folder / "task").mkdir(parents=True, exist_ok=True)
        user, system = round(self.cpu / TICK_SECONDS) - 3, 3
        (self.folder / "stat").write_text(f"7 (a ) R (b) {states[0]} " + "0 " * 10 + f"{user} {system} 9 9 0 0")
        for number, state in enumerate(states):
            (self.folder / "task" / str(number)).mkdir(exist_ok=True)
            (self.folder / "task" / str(number) / "stat").write_text(f"{number} (R) {state} 0 0")
        return self


@pytest.fixture
def process(monkeypatch, tmp_path):
    process = Process(tmp_path)
    monkeypatch.setattr(program_time, "PROC", tmp_path)
    monkeypatch.setattr(program_time.time, "monotonic", lambda: process.now)
    return process.goes_on(0.0, cpu=1.0)


def test_what_runs_uses_the_processor_time_that_it_is_given(process):
    program = ProgramTime(7)
    for _ in range(64):
        process.goes_on(6.4, cpu=0.1)
        program.look()
    assert program.seconds == pytest.approx(6.4)


@pytest.mark.parametrize("states", ["S", "SSS", "D", "T", "Z"])
def test_what_sleeps_uses_the_time_that_goes_by(process, states):
    program = ProgramTime(7)
    for _ in range(10):
        process.goes_on(0.5, states=states)
        program.look()
    assert program.seconds == pytest.approx(5.0)


def test_threads_that_run_at_once_use_the_time_of_each(process):
    program = ProgramTime(7)
    process.goes_on(1.0, cpu=3.5, states="SRR")
    assert program.look() == pytest.approx(3.5)
    process.goes_on(1.0, cpu=2.0, states="SSS")
    assert program.look() == pytest.approx(5.5)


def test_of_a_process_that_proc_does_not_show_all_time_counts(process):
    for pid in (8, None):
        program = ProgramTime(pid)
        process.now += 2.5
        assert program.look() == pytest.approx(2.5)
        assert program.page_table_bytes() == 0


def test_who_looks_late_at_an_end_does_not_count_the_delay(process):
    program = ProgramTime(7)
    process.goes_on(1.0, cpu=1.0)
    program.look()
    process.goes_on(0.02)
    assert program.end(0.05) == pytest.approx(1.02)
    process.goes_on(30.0)
    assert program.end(0.05) == pytest.approx(1.05)


def test_page_tables_are_those_of_the_process(process):
    (process.folder / "status").write_text("Name:\tVmPTE:\nVmRSS:\t 900 kB\nVmPTE:\t      12 kB\nThreads:\t1\n")
    assert ProgramTime(7).page_table_bytes() == 12 * 1024


# --- of real programs


@pytest.fixture
def crowded():
    """A core with four processes on it that never rest, each a session of its own, of which schedulers know."""
    core = min(os.sched_getaffinity(0))
    loop = f"import os\nos.sched_setaffinity(0, {{{core}}})\nprint(flush=True)\nwhile True: pass"
    others = [
        subprocess.Popen([sys.executable, "-S", "-c", loop], stdout=subprocess.PIPE, start_new_session=True)
        for _ in range(4)
    ]
    for other in others:
        other.stdout.readline()
    yield core
    for other in others:
        other.kill()
        other.wait()
        other.stdout.close()


def busy(seconds):
    return f"import time\nwhile time.process_time() < {seconds}: pass\nprint('done')"


@pytest.mark.slow
def test_a_program_may_wait_longer_for_its_core_than_it_may_run(crowded):
    start = time.monotonic()
    execution = execute(busy(0.5), b"", Limits(seconds=0.8, core=crowded))
    assert execution.completed and execution.output == b"done\n"
    assert time.monotonic() - start > 0.8


@pytest.mark.slow
def test_a_program_that_runs_or_sleeps_too_long_ends_also_where_it_has_to_wait(crowded):
    for script in (busy(60), "import time\ntime.sleep(60)"):
        execution = execute(script, b"", Limits(seconds=0.3, core=crowded))
        assert not execution.completed and 0.3 <= execution.seconds < 30


def test_who_is_not_given_its_time_until_the_end_is_no_failed_program(crowded):
    with pytest.raises(GraderFailed, match=r"gave a program [01]\.\d s of its 6 s"):
        execute(busy(60), b"", Limits(core=crowded, end=time.monotonic() + 1.0))


def test_what_was_written_in_time_is_read_however_late(monkeypatch):
    """A grader that gets no core for long finds a program that has ended, and takes that for its end."""
    wait_until_ready = sandbox._wait_until_ready

    def late(process, ready):
        wait_until_ready(process, ready)
        process.wait(60)

    monkeypatch.setattr(sandbox, "_wait_until_ready", late)
    monkeypatch.setattr(ProgramTime, "look", lambda self: 1000.0)
    for text in ("x" * 60_000, ""):
        execution = execute(f"print({text!r})", b"", Limits(seconds=0.5))
        assert execution.completed and execution.output == f"{text}\n".encode()


@pytest.mark.parametrize("core", sorted(os.sched_getaffinity(0))[:2])
def test_all_threads_of_a_program_stay_on_its_core(core):
    before = os.sched_getaffinity(0)
    script = """
import os, threading
def look():
    try:
        os.sched_setaffinity(0, range(os.sysconf("SC_NPROCESSORS_CONF")))
    except PermissionError:
        print(*os.sched_getaffinity(0))
threads = [threading.Thread(target=look) for _ in range(3)]
for thread in threads:
    thread.start()
    thread.join()
"""
    assert execute(script, b"", Limits(core=core)).output.split() == [str(core).encode()] * 3
    assert os.sched_getaffinity(0) == before
