"""A hostile program makes no process, reaches none, and ends with its time or its grader."""

import os
import subprocess
import sys
import time

import pytest

from balanced_agg.rewards import sandbox
from balanced_agg.rewards.program_time import ProgramTime
from tests.rewards.code.hostile.outside import Watch, lines, processes_named, run, run_watched
from tests.rewards.code.hostile.programs import CALL


def test_a_fork_bomb_makes_no_process():
    execution, peak = run_watched("""
        import multiprocessing, os, subprocess, time
        ways = [os.fork, os.forkpty, lambda: subprocess.Popen(["/usr/bin/true"]), lambda: os.system("true"),
                lambda: os.posix_spawn("/usr/bin/true", ["true"], {}),
                lambda: multiprocessing.get_context("fork").Process(target=print).start()]
        for _ in range(50):
            for way in ways:
                try:
                    print("made", way())
                except OSError as error:
                    print(type(error).__name__)
        time.sleep(0.2)
    """)
    made = {line for line in lines(execution) if line.startswith("made")}
    assert made <= {"made -1", "made 32512"}  # what os.system returns where it can start nothing
    assert peak.processes == 1


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="system call numbers of x86_64")
def test_system_calls_past_libc_make_no_process_either():
    output = lines(run(CALL + "for number in (56, 57, 58, 435): print(call(number, 17, 0, 0, 0, 0))"))
    assert output == ["EPERM", "EPERM", "EPERM", "ENOSYS"]
    for number in (0x40000000 + 57, 0x40000000 + 39):  # the x32 numbering of the same calls
        assert not run(CALL + f"print(call({number}))").completed


def test_a_thread_bomb_stays_within_the_limit():
    execution, peak = run_watched("""
        import threading, time
        threading.stack_size(2**16)
        try:
            while True:
                threading.Thread(target=time.sleep, args=[60], daemon=True).start()
        except RuntimeError:
            print(threading.active_count(), flush=True)
            time.sleep(0.3)
    """)
    assert 2 < int(lines(execution)[0]) <= sandbox.THREADS
    assert peak.threads <= sandbox.THREADS


def test_no_program_runs_as_root_or_can_gain_anything():
    execution, peak = run_watched("""
        import os, time
        for change in (os.setuid, os.setgid, lambda i: os.setgroups([i])):
            try:
                change(0)
                print("changed")
            except OSError:
                pass
        time.sleep(0.3)
        wanted = ("Cap", "NoNewPrivs", "Seccomp:")
        print(*[line for line in open("/proc/self/status") if line.startswith(wanted)], sep="")
    """)
    status = dict(line.split(":\t") for line in lines(execution) if line)
    bits = {name: int(value, 16) for name, value in status.items()}
    assert bits["CapEff"] == bits["CapPrm"] == bits["CapAmb"] == 0
    assert bits["NoNewPrivs"] == 1 and bits["Seccomp"] == 2
    assert peak.uids and "0" not in peak.uids


def test_signals_reach_no_process_of_this_machine():
    with subprocess.Popen(["sleep", "1000"]) as bystander:
        try:
            execution = run(f"""
                import os, signal
                for pid in [*range(1, 300), os.getppid(), {os.getpid()}, {os.getppid()}, {bystander.pid}, -1]:
                    for number in (signal.SIGSTOP, signal.SIGKILL) if pid != os.getpid() else ():
                        try:
                            os.kill(pid, number)
                        except OSError:
                            pass
                print("still here")
            """)
            assert lines(execution) == ["still here"]
            assert bystander.poll() is None
        finally:
            bystander.kill()


def test_ignored_signals_and_sleep_do_not_outlast_the_deadline():
    execution, _ = run_watched(
        """
        import signal, time
        for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
            signal.signal(number, signal.SIG_IGN)
        print("ready", flush=True)
        while True:
            time.sleep(1000)
        """,
        seconds=1.0,
    )
    assert execution.output == b"ready\n" and not execution.completed


def test_nothing_outlives_its_sandbox():
    execution, _ = run_watched(
        """
        import ctypes, os, threading, time
        for _ in range(2):
            try:
                os.fork()
            except OSError:
                pass
            try:
                os.setsid()
            except OSError:
                pass
        ctypes.CDLL(None).prctl(1, 0)  # no signal when the parent dies
        threading.Thread(target=time.sleep, args=[1000]).start()
        os.closerange(0, 256)
        time.sleep(1000)
        """,
        seconds=1.0,
    )
    assert not execution.completed


def test_when_the_grader_is_killed_its_sandboxes_die():
    with Watch() as watch:
        script = (
            watch.introduce + "import time; ctypes.CDLL(None).prctl(1, 0); print('up', flush=True); time.sleep(1000)"
        )
        grader = subprocess.Popen(
            [
                sys.executable,
                "-c",
                f"from balanced_agg.rewards.sandbox import *; execute({script!r}, b'', Limits(500.0))",
            ]
        )
        while not processes_named(watch.name):
            assert grader.poll() is None
        grader.kill()
        grader.wait()
        patience = time.monotonic() + 30
        while processes_named(watch.name):
            assert time.monotonic() < patience


@pytest.mark.slow
def test_processor_time_is_bounded_too(monkeypatch):
    monkeypatch.setattr(ProgramTime, "look", lambda self: 0.0)
    assert not run("import os\nos.closerange(0, 3)\nwhile True: pass", seconds=1.0).completed


@pytest.mark.slow
@pytest.mark.parametrize(
    "crash",
    [
        "os.kill(os.getpid(), signal.SIGKILL)",
        "os.abort()",
        "ctypes.string_at(0)",
        "os._exit(1)",
        "sys.exit(1)",
        "ctypes.CDLL(None).exit(7)",
        "sys._getframe(1).f_globals.clear(); raise KeyError",
        "os.execv('/nothing', ['x'])",
    ],
)
def test_killing_the_harness_is_a_failed_program_not_a_failed_grader(crash):
    assert not run(f"import ctypes, os, signal, sys\nprint(1, flush=True)\n{crash}").completed
