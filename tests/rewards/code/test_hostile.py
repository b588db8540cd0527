"""What a hostile program cannot do. Each test looks from outside, at this machine and at what came back."""

import json
import os
import secrets
import socket
import subprocess
import sys
import textwrap
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from balanced_agg.rewards import code, sandbox
from balanced_agg.rewards.code import grade_code
from balanced_agg.rewards.sandbox import Execution, Limits, execute

MIB = 2**20
CALL = """
import ctypes, errno
libc = ctypes.CDLL(None, use_errno=True)
def call(number, *args):
    ctypes.set_errno(0)
    result = libc.syscall(ctypes.c_long(number), *[ctypes.c_long(a) if isinstance(a, int) else a for a in args])
    return errno.errorcode[ctypes.get_errno()] if result == -1 else result
"""


def run(script, stdin=b"", **limits):
    return execute(textwrap.dedent(script), stdin, Limits(**{"seconds": 5.0} | limits))


def lines(execution: Execution):
    assert execution.completed, execution
    return execution.output.decode().splitlines()


# --- watching from outside


def processes_named(name):
    """Host process ids, by /proc, of processes that call themselves `name`."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "comm").read_text().strip() == name:
                found.append(process)
        except (FileNotFoundError, ProcessLookupError):
            pass
    return found


@dataclass
class Peak:
    processes: int = 0
    threads: int = 0
    resident_bytes: int = 0
    uids: set[str] = field(default_factory=set)


class Watch:
    """Names a sandboxed process and records, while it runs, what the host knows of processes with that name."""

    def __init__(self):
        self.name = "x" + secrets.token_hex(6)
        self.introduce = f"import ctypes\nctypes.CDLL(None).prctl(15, b'{self.name}')\n"
        self.peak = Peak()
        self._over = threading.Event()

    def __enter__(self):
        self._thread = threading.Thread(target=self._look)
        self._thread.start()
        return self

    def __exit__(self, *exception):
        self._over.set()
        self._thread.join()

    def _look(self):
        while not self._over.wait(0.02):
            processes = processes_named(self.name)
            try:
                status = [
                    dict(line.split(":\t", 1) for line in (p / "status").open() if ":\t" in line) for p in processes
                ]
            except (FileNotFoundError, ProcessLookupError):
                continue
            self.peak.processes = max(self.peak.processes, len(status))
            self.peak.threads = max(self.peak.threads, sum(int(s.get("Threads", 0)) for s in status))
            resident = sum(int(s.get("VmRSS", "0").split()[0]) * 1024 for s in status)
            self.peak.resident_bytes = max(self.peak.resident_bytes, resident)
            self.peak.uids |= {s["Uid"].split()[0] for s in status}


def run_watched(script, **limits):
    with Watch() as watch:
        execution = run(watch.introduce + textwrap.dedent(script), **limits)
    assert not processes_named(watch.name)
    assert watch.peak.processes >= 1
    return execution, watch.peak


# --- processes and time


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
    monkeypatch.setattr(sandbox, "_status", lambda process, deadline: process.wait())
    assert not run("import os\nos.closerange(0, 3)\nwhile True: pass", seconds=1.0).completed


@pytest.mark.slow
@pytest.mark.parametrize(
    "crash",
    ["os.kill(os.getpid(), signal.SIGKILL)", "os.abort()", "ctypes.string_at(0)", "os._exit(1)", "sys.exit(1)"]
    + [
        "ctypes.CDLL(None).exit(7)",
        "sys._getframe(1).f_globals.clear(); raise KeyError",
        "os.execv('/nothing', ['x'])",
    ],
)
def test_killing_the_harness_is_a_failed_program_not_a_failed_grader(crash):
    assert not run(f"import ctypes, os, signal, sys\nprint(1, flush=True)\n{crash}").completed


# --- memory and output


@pytest.mark.parametrize(
    "bomb",
    ["held = []\nwhile True: held.append(bytearray(2**22))", "b'x' * 2**40", "[0] * 2**40"]
    + ["import mmap\nheld = []\nwhile True: held.append(mmap.mmap(-1, 2**22)); held[-1].write(b'x' * 2**22)"]
    + [pytest.param("class A:\n    pass\nheld = None\nwhile True: held = [held, A()]", marks=pytest.mark.slow)],
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
def test_infinite_output_fills_neither_memory_nor_disk(stream):
    execution = run(f"import sys\nwhile True: sys.{stream}.write('x' * 10**6)", seconds=2.0, output_bytes=MIB)
    assert not execution.completed
    assert len(execution.output) == (MIB if stream == "stdout" else 0)


def test_an_output_at_the_limit_is_whole():
    execution = run(f"print('x' * {MIB - 1})", output_bytes=MIB)
    assert execution.completed and len(execution.output) == MIB


# --- files


def test_no_file_of_this_machine_can_be_read(tmp_path):
    canary = f"canary-{secrets.token_hex(8)}"
    repository = Path(code.__file__).parents[2]
    planted = [folder / f".{canary}" for folder in (Path.home(), repository, tmp_path, Path("/tmp"), Path.cwd())]
    try:
        for path in planted:
            path.write_text(canary)
        execution = run(f"""
            import os
            known = ["/etc/passwd", "/etc/shadow", "/etc/hosts", "/var/log", "/sys"]
            for path in {[str(path) for path in planted]} + known:
                print(os.path.exists(path))
            below = [name for folder in ("/home", "/root", "/tmp", "/var", "/mnt", "/opt", "/srv", "/run", "/media")
                     for _, _, names in os.walk(folder) for name in names if {canary!r} in name]
            print(below)
        """)
    finally:
        for path in set(planted):
            path.unlink(missing_ok=True)
    assert lines(execution) == ["False"] * 10 + ["[]"]


def test_nothing_can_be_written_anywhere():
    script = """
        import os
        places = ["/"] + [os.path.join(top, name) for top in ("/", "/dev", "/proc", "/usr") for name in os.listdir(top)]
        places += ["/tmp", "/dev/shm", "/dev/mqueue", "/var/tmp", os.getcwd(), os.path.dirname(os.__file__), "/proc/1"]
        ways = [lambda p: open(p + "/new", "w"), lambda p: os.mkdir(p + "/new"),
                lambda p: os.symlink("/etc", p + "/new"),
                lambda p: os.link("/sandbox_entry.py", p + "/new"), lambda p: os.mknod(p + "/new", 0o20666, 259),
                lambda p: os.mkfifo(p + "/new"), lambda p: os.chmod(p, 0o777), lambda p: os.rename(p, p + "new"),
                lambda p: os.unlink(p), lambda p: os.truncate(p, 0) if os.path.isfile(p) else 1 / 0]
        for place in places:
            for number, way in enumerate(ways):
                try:
                    way(place)
                    print(place, number)
                except (OSError, ZeroDivisionError):
                    pass
    """
    execution = run(script, stdin=b"not empty")
    # chmod works on what is the sandbox's alone: its pipe, its sealed input, its terminals.
    own = {f"/dev/{name} 6" for name in ("stdin", "stdout", "stderr", "ptmx", "pts")}
    assert set(lines(execution)) <= own


def test_what_the_grader_sends_cannot_be_changed():
    execution = run(
        """
        import mmap, os
        ways = [lambda: os.pwrite(0, b"forged", 0), lambda: os.ftruncate(0, 0), lambda: os.ftruncate(0, 10**6),
                lambda: mmap.mmap(0, 0), lambda: os.write(os.open("/dev/stdin", os.O_RDWR), b"forged"),
                lambda: open("/sandbox_entry.py", "a"), lambda: open("/proc/self/fd/0", "w")]
        for way in ways:
            try:
                way()
                print("changed")
            except OSError:
                pass
        print(input())
        """,
        stdin=b"as sent",
    )
    assert lines(execution) == ["as sent"]


# --- secrets and other processes


def test_no_secret_of_the_environment_and_no_other_process_is_visible(monkeypatch):
    canary = secrets.token_hex(16)
    monkeypatch.setenv("WANDB_API_KEY", canary)
    with subprocess.Popen(["sleep", "1000"], env={"TOKEN": canary}) as bystander:
        try:
            execution = run("""
                import os
                print([pid for pid in os.listdir("/proc") if pid.isdigit()], os.listdir("/proc/1"), flush=True)
                for folder, _, names in os.walk("/proc"):
                    if "/task" in folder or folder.count("/") > 3:
                        continue
                    for name in names:
                        if name in ("kmsg", "kcore", "pagemap", "mem", "kpagecount", "kpageflags", "kpagecgroup"):
                            continue
                        try:
                            fd = os.open(os.path.join(folder, name), os.O_RDONLY | os.O_NONBLOCK)
                            os.write(1, os.read(fd, 4096))
                            os.close(fd)
                        except OSError:
                            pass
            """)
        finally:
            bystander.kill()
    assert canary not in execution.output.decode(errors="replace")
    assert execution.output.splitlines()[0] == b"['1', '2'] []"
    assert execution.completed


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="system call numbers of x86_64")
def test_privileged_and_prying_system_calls_fail():
    calls = {
        "ptrace": "101, 16, 1, 0, 0",
        "process_vm_readv": "310, 1, 0, 0, 0, 0, 0",
        "process_vm_writev": "311, 1, 0, 0, 0, 0, 0",
        "pidfd_open": "434, 1, 0",
        "unshare": "272, 0x10000000",
        "setns": "308, 0, 0",
        "mount": "165, b'none', b'/dev', b'tmpfs', 0, 0",
        "umount2": "166, b'/proc/1', 2",
        "pivot_root": "155, b'/', b'/'",
        "chroot": "161, b'/usr'",
        "mknod": "133, b'/dev/sda', 0o60666, 0x800",
        "sethostname": "170, b'x', 1",
        "bpf": "321, 0, 0, 0",
        "perf_event_open": "298, 0, 0, 0, 0, 0",
        "userfaultfd": "323, 1",
        "io_uring_setup": "425, 1, 0",
        "keyctl": "250, 0, -3, 0",
        "add_key": "248, b'user', b'x', b'x', 1, -3",
        "reboot": "169, 0, 0, 0, 0",
        "swapon": "167, b'/dev/zero', 0",
    }
    output = lines(run(CALL + "".join(f"print({name!r}, call({call}))\n" for name, call in calls.items())))
    assert [line for line in output if not line.endswith((" EPERM", " EROFS"))] == []
    assert len(output) == len(calls)


# --- network


def test_no_network():
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as unix:
        tcp.setblocking(False)
        unix.bind(f"\0{secrets.token_hex(8)}")
        unix.listen()
        unix.setblocking(False)
        execution = run(f"""
            import socket, urllib.request
            ways = [lambda: socket.create_connection(("127.0.0.1", {tcp.getsockname()[1]}), 1),
                    lambda: socket.socket(socket.AF_UNIX).connect({unix.getsockname()!r}),
                    lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM), lambda: socket.socket(socket.AF_INET6),
                    lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW), lambda: socket.create_server(("", 0)),
                    lambda: socket.getaddrinfo("localhost", 80), lambda: socket.getaddrinfo("example.com", 80),
                    lambda: urllib.request.urlopen("http://127.0.0.1:{tcp.getsockname()[1]}", timeout=1)]
            for way in ways:
                try:
                    way()
                    print("reached")
                except OSError:
                    pass
        """)
        for listener in (tcp, unix):
            with pytest.raises(BlockingIOError):
                listener.accept()
    assert lines(execution) == []


# --- the result channel


def grade(program, inputs, outputs, fn_name=None):
    truth = json.dumps({"inputs": inputs, "outputs": outputs, "fn_name": fn_name})
    return grade_code(f"```python\n{textwrap.dedent(program)}\n```", truth)


FORGERIES = {
    "prints a verdict": "print('True'); print('ready'); print('passed'); print({'output': [42], 'completed': True})",
    "writes to every descriptor": """
        import os
        for fd in range(256):
            for text in (b"true", b"ready\\n", b"passed", b"\\n"):
                try: os.write(fd, text)
                except OSError: pass""",
    "equal to everything": """
        import json
        class Everything(int):
            __eq__ = lambda self, other: True
            __hash__ = int.__hash__
        print(Everything(7))
        def f(x): return Everything(7)""",
    "patches json and builtins": """
        import builtins, json, sys
        json.dumps = json.dump = json.JSONEncoder.encode = lambda *args, **kwargs: "True"
        builtins.compile = builtins.exec = builtins.isinstance = lambda *args: True
        sys.stdout = sys.stderr""",
    "patches the harness through frames": """
        import gc, sys
        frame = sys._getframe()
        while frame:
            for name in list(frame.f_globals):
                if callable(frame.f_globals[name]) and not name.startswith("__"):
                    frame.f_globals[name] = lambda *args, **kwargs: True
            frame = frame.f_back
        for thing in gc.get_objects():
            if isinstance(thing, dict) and "expected" in thing: thing["expected"] = None""",
    "exits before it answers": "import os; os._exit(0)",
    "raises SystemExit": "raise SystemExit(0)",
    "answers at exit": "import atexit; atexit.register(print, 'True')",
    "claims another exit status": "import ctypes; ctypes.CDLL(None).exit_group(0)",
    "closes everything": "import os; os.closerange(0, 256)",
    "replaces itself": "import os, sys; os.execv(sys.executable, [sys.executable, '-c', 'print(True)'])",
}


@pytest.mark.parametrize("forgery", FORGERIES.values(), ids=FORGERIES)
@pytest.mark.parametrize("fn_name", [None, pytest.param("f", marks=pytest.mark.slow)])
def test_no_verdict_can_be_forged(forgery, fn_name):
    assert not grade(forgery, ["1"], ["[42, 17]"], fn_name)


def test_the_expected_output_is_nowhere_in_the_sandbox(monkeypatch):
    sent = []
    real = sandbox.execute
    monkeypatch.setattr(
        sandbox, "execute", lambda *args, **kwargs: sent.append(repr((args, kwargs))) or real(*args, **kwargs)
    )
    assert not grade("print(input())", ["question"], ["expected-answer"])
    assert not grade("def f(x):\n    return x", ['"question"'], ['"expected-answer"'], "f")
    assert len(sent) == 2 and all("question" in text and "expected-answer" not in text for text in sent)


def test_a_right_first_test_prepares_nothing_for_the_second():
    program = """
        import os, tempfile
        answer = input()
        for path in ("/tmp/kept", "/dev/shm/kept", "kept", os.path.expanduser("~/kept")):
            try: open(path, "x").write(answer)
            except OSError: pass
            if os.path.exists(path): answer = "seen"
        try:
            if os.fork() == 0:
                while True: os.write(1, b"second")
        except OSError: pass
        print("first")
    """
    assert grade(program, ["1", "2"], ["first", "first"])
    assert not grade(program, ["1", "2"], ["first", "second"])


# --- awkward answers and programs


@pytest.mark.slow
@pytest.mark.parametrize(
    "value",
    ["[0] * 10**7", "'x' * 10**8", "10**40000", "float('inf')", "'\\0' * 10", "'\\ud800'", "b'x'", "range(10**9)"]
    + ["__import__('functools').reduce(lambda a, _: [a], range(900), 0)"],
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
