"""Runs one Python script, isolated from this machine, and returns what it wrote.

Who enforces what (bubblewrap is abbreviated bwrap):

- files: bwrap mounts the interpreter, the system's libraries, numpy and sortedcontainers, all read-only. There is no
  other file and no place to write to, not even a scratch directory: no home, no repository, no /tmp, no /dev/shm.
- secrets: bwrap itself starts with an environment of three harmless variables.
- other processes: own pid and ipc namespaces; bwrap's own process 1 is covered in /proc.
- network: own network namespace, and seccomp refuses socket().
- privileges: an unprivileged user without capabilities, who cannot gain any: in a user namespace when the caller is an
  ordinary user, by a change of uid when the caller is root (no sandbox ever runs as the host's root).
- memory: seccomp refuses fork, and memory outside the address space (memfd, System V, message queues), so that
  RLIMIT_AS of the one process bounds everything.
- processor and threads: RLIMIT_CPU and RLIMIT_NPROC (which counts per user namespace since Linux 5.14).
- output: at most `output_bytes` are read, then the sandbox is killed; standard error goes to /dev/null.
- time: at the deadline process 1 of the pid namespace is killed, and with it the kernel kills all others there.
  bwrap does the same when the caller dies.
- the caller's files: the two files a sandbox inherits are sealed against writing and resizing.
"""

import fcntl
import functools
import importlib.util
import logging
import math
import os
import platform
import random
import re
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from balanced_agg.rewards.errors import GraderFailed
from balanced_agg.rewards.seccomp import MACHINES, seccomp_filter

logger = logging.getLogger(__name__)

ALLOW_UNSANDBOXED = "reward.custom_reward_function.reward_kwargs.allow_unsandboxed_code=True"
START_SECONDS = 60.0  # for bwrap and the interpreter to start
POLL_SECONDS = 0.02  # between two looks for a free place
THREADS = 64
STACK_BYTES = 128 * 2**20  # deep recursion through C, as in functools.cache, needs more than the usual 8 MiB
READY = b"ready\n"
ENTRY = Path(__file__).with_name("sandbox_entry.py")
ENTRY_INSIDE = "/sandbox_entry.py"
PACKAGES = ("numpy", "sortedcontainers")  # what programs may import beside the standard library
PACKAGES_INSIDE = "/packages"
ENVIRONMENT = {"PYTHONUTF8": "1", "PYTHONHASHSEED": "0", "OPENBLAS_NUM_THREADS": "1"}
# A user namespace of root's would map its user to the host's root, which RLIMIT_NPROC does not bind.
ROOT = "--cap-drop ALL --cap-add CAP_SETUID --cap-add CAP_SETGID".split()
ORDINARY = "--unshare-user --uid 65534 --gid 65534 --cap-drop ALL".split()
# systemd's range of dynamic users. One for each sandbox of root's, because RLIMIT_NPROC counts by uid.
UIDS = range(61184, 65520)

_line = threading.Lock()


@dataclass(frozen=True)
class Limits:
    """Of one run: seconds by the clock and of processor time, bytes of address space, bytes of standard output."""

    seconds: float = 6.0
    memory_bytes: int = 2 * 2**30
    output_bytes: int = 16 * 2**20


@dataclass(frozen=True)
class Execution:
    """What a script wrote to standard output, whether it ended by itself with exit status 0, and how long it ran."""

    output: bytes
    completed: bool
    seconds: float


def execute(script: str, stdin: bytes, limits: Limits, *, allow_unsandboxed: bool = False) -> Execution:
    """Run `script` in a new sandbox. The caller sees to it that not too many run at once (see `place`).

    Without a working sandbox: ValueError, or, given `allow_unsandboxed`, a run under resource limits only.
    GraderFailed if the sandbox did not get as far as the script.
    """
    try:
        check_sandbox()
        sandboxed = True
    except ValueError:
        if not allow_unsandboxed:
            raise
        _warn_unsandboxed()
        sandboxed = False
    return _execute(script, stdin, limits, sandboxed)


def check_sandbox() -> None:
    """ValueError that says what to install, enable or set, unless programs can be isolated on this machine."""
    problem = _sandbox_problem()
    if problem:
        raise ValueError(
            f"{problem}. Grading code runs programs that a model wrote. Without a sandbox, set sandbox_fusion_url to a "
            f"Sandbox Fusion service, or {ALLOW_UNSANDBOXED} to run them with your rights and in reach of your files"
        )


@functools.cache
def _sandbox_problem() -> str | None:
    if not shutil.which("bwrap"):
        return "bubblewrap is not installed (apt-get install bubblewrap)"
    if platform.machine() not in MACHINES:
        return f"the sandbox knows the system calls of {MACHINES}, not of {platform.machine()}"
    release = tuple(int(part) for part in re.findall(r"\d+", platform.release())[:2])
    if os.geteuid() != 0 and release < (5, 14):
        return f"Linux {platform.release()} cannot bound the threads of an ordinary user's sandbox, 5.14 can"
    if missing := [name for name in PACKAGES if name not in _package_folders()]:
        return f"programs import what is not installed (pip install {' '.join(missing)})"
    probe = "import threading\nthread = threading.Thread(target=print, args=['works'])\nthread.start()\nthread.join()"
    try:
        execution = _execute(probe, b"", Limits(seconds=START_SECONDS), sandboxed=True)
        failure = None if execution.output == b"works\n" else execution
    except GraderFailed as error:
        failure = error
    return failure and (
        f"bubblewrap cannot make a sandbox here ({failure}); it needs root with CAP_SYS_ADMIN or unprivileged user "
        f"namespaces (sysctl user.max_user_namespaces above 0, kernel.unprivileged_userns_clone=1 and "
        f"kernel.apparmor_restrict_unprivileged_userns=0 where they exist)"
    )


@functools.cache
def _warn_unsandboxed() -> None:
    logger.warning("NO SANDBOX: model-written programs run with the rights of this process (%s)", ALLOW_UNSANDBOXED)


@contextmanager
def place(deadline: float) -> Iterator[None]:
    """Hold one of as many places as this process has cores; all processes of this user share them.

    Of the threads of a process, one looks for a free place at a time and the others stand in line behind it.
    GraderFailed if no place is free by `deadline`, in seconds of `time.monotonic`.
    """
    lock = None
    if _line.acquire(timeout=max(0.0, deadline - time.monotonic())):
        try:
            while not (lock := _free_place()) and time.monotonic() < deadline:
                time.sleep(POLL_SECONDS)
        finally:
            _line.release()
    if not lock:
        raise GraderFailed("no sandbox was free in time: fewer programs must be graded at once (reward.num_workers)")
    with lock:
        yield


def _free_place() -> IO[str] | None:
    """A file, locked until it is closed; None if all are."""
    folder = Path(tempfile.gettempdir()) / f"balanced_agg_sandboxes_{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    for number in range(len(os.sched_getaffinity(0))):
        file = (folder / str(number)).open("w")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return file
        except BlockingIOError:
            file.close()
    return None


def _execute(script: str, stdin: bytes, limits: Limits, sandboxed: bool) -> Execution:
    with _sealed(stdin) as stdin_fd, _sealed(script.encode()) as script_fd, _sealed(seccomp_filter()) as filter_fd:
        command = _python(script_fd, limits, sandboxed)
        if sandboxed:
            command = [*_bubblewrap(filter_fd), "--", *command]
        process = subprocess.Popen(
            command,
            stdin=stdin_fd,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,  # of bwrap: until it reports ready, the only thing that can be heard
            pass_fds=[script_fd, filter_fd],
            env=ENVIRONMENT,
            cwd="/",
            start_new_session=True,
        )
    with process:
        try:
            return _watch(process, limits)
        finally:
            _kill(process, sandboxed)


def _watch(process: subprocess.Popen, limits: Limits) -> Execution:
    output = bytearray()
    ready = None
    deadline = time.monotonic() + START_SECONDS
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while time.monotonic() < deadline and len(output) <= len(READY) + limits.output_bytes:
            if not selector.select(deadline - time.monotonic()):
                break
            chunk = os.read(process.stdout.fileno(), 2**16)
            output += chunk
            if ready is None and output.startswith(READY):
                ready = time.monotonic()
                deadline = ready + limits.seconds
            if not chunk:
                break
    if ready is None:
        raise GraderFailed(f"the sandbox did not start: {output[:500].decode(errors='replace')!r}")
    answer = bytes(output[len(READY) :])
    completed = len(answer) <= limits.output_bytes and _status(process, deadline) == 0
    return Execution(answer[: limits.output_bytes], completed, time.monotonic() - ready)


def _status(process: subprocess.Popen, deadline: float) -> int | None:
    """Exit status, None if it still runs at `deadline`."""
    try:
        return process.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        return None


def _kill(process: subprocess.Popen, sandboxed: bool) -> None:
    with suppress(ProcessLookupError):
        if not sandboxed:
            os.killpg(process.pid, signal.SIGKILL)
        elif first := _first_process(process):
            os.kill(first, signal.SIGKILL)
        else:
            process.kill()
    process.wait()


def _first_process(bubblewrap: subprocess.Popen) -> int | None:
    """Process 1 of a sandbox. bwrap waits for it, and it ends when the kernel has ended all others in the sandbox."""
    if bubblewrap.poll() is not None:
        return None
    children = Path(f"/proc/{bubblewrap.pid}/task/{bubblewrap.pid}/children").read_text().split()
    return int(children[0]) if children else None


@contextmanager
def _sealed(content: bytes) -> Iterator[int]:
    """A file descriptor at the start of a file in memory that nobody can write, shrink or grow."""
    with os.fdopen(os.memfd_create("sealed", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING), "w+b") as file:
        file.write(content)
        file.seek(0)
        seals = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK
        fcntl.fcntl(file, fcntl.F_ADD_SEALS, seals)
        yield file.fileno()


def _python(script_fd: int, limits: Limits, sandboxed: bool) -> list[str]:
    bounds = {
        "CPU": math.ceil(limits.seconds) + 1,
        "AS": limits.memory_bytes,
        "STACK": STACK_BYTES,
        "FSIZE": 0,
        "NOFILE": 64,
        "SIGPENDING": 256,
        "MSGQUEUE": 0,
        "CORE": 1,  # unlike 0, also keeps the kernel from piping a dump to a crash handler
    }
    if sandboxed:
        bounds["NPROC"] = THREADS
    uid = str(random.SystemRandom().choice(UIDS)) if sandboxed and os.geteuid() == 0 else ""
    entry, packages = ENTRY_INSIDE, PACKAGES_INSIDE
    if not sandboxed:
        entry, packages = str(ENTRY), os.pathsep.join({str(folder.parent) for folder in _package_folders().values()})
    # -S: no site-packages; -s, -P, -B: nothing of the user's, nothing beside the script, no bytecode files.
    interpreter = [str(_executable()), "-s", "-S", "-P", "-B"]
    return [
        *interpreter,
        entry,
        str(script_fd),
        uid,
        packages,
        *(f"{name}={value}" for name, value in bounds.items()),
    ]


def _bubblewrap(filter_fd: int) -> list[str]:
    system = ["/usr/lib", "/usr/lib64", "/lib", "/lib64", "/etc/ld.so.cache"]
    mounts = {path: path for path in [*system, str(Path(sys.base_prefix).resolve()), str(_executable())]}
    mounts[ENTRY_INSIDE] = str(ENTRY)
    for folder in _package_folders().values():
        for part in (folder, folder.with_suffix(".libs")):  # shared libraries, where a package has some
            mounts[f"{PACKAGES_INSIDE}/{part.name}"] = str(part)
    # Directories that bwrap makes on its own for a mount may be closed to other users.
    above = sorted({str(parent) for target in mounts for parent in Path(target).parents} - {"/", *mounts})
    return [
        str(shutil.which("bwrap")),
        *(ROOT if os.geteuid() == 0 else ORDINARY),
        *"--unshare-ipc --unshare-pid --unshare-net --unshare-uts --unshare-cgroup-try".split(),
        *"--new-session --die-with-parent".split(),
        *(word for path in above for word in ("--perms", "0755", "--dir", path)),
        *(word for target, source in mounts.items() for word in ("--ro-bind-try", source, target)),
        *"--proc /proc --tmpfs /proc/1 --remount-ro /proc/1 --dev /dev --remount-ro /dev --remount-ro /".split(),
        *["--seccomp", str(filter_fd)],
    ]


def _executable() -> Path:
    return Path(getattr(sys, "_base_executable", sys.executable)).resolve()


@functools.cache
def _package_folders() -> dict[str, Path]:
    specs = {name: importlib.util.find_spec(name) for name in PACKAGES}
    return {name: Path(spec.origin).parent for name, spec in specs.items() if spec and spec.origin}
