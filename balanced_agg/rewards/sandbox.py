"""Runs one Python script, isolated from this machine, and returns what it wrote.

Who enforces what (bubblewrap is abbreviated bwrap):

- files: bwrap mounts the interpreter, its library, the system's libraries, numpy and sortedcontainers, all read-only
  (`bubblewrap`). There is no other file and no place to write to, not even a scratch directory: no home, no repository,
  no /tmp, no /dev/shm.
- secrets: bwrap itself starts with an environment of three harmless variables, and of /proc there is what is about the
  sandbox's own processes. Their mount table tells where the mounted files lie on this machine.
- other processes: own pid and ipc namespaces; bwrap's own process 1 is covered in /proc.
- network: own network namespace, and seccomp has no socket().
- privileges: an unprivileged user without capabilities, who cannot gain any: in a user namespace when the caller is an
  ordinary user, by a change of uid when the caller is root (no sandbox ever runs as the host's root).
- memory: seccomp has no fork, and nothing that holds memory outside the address space, so that RLIMIT_AS of the one
  process bounds all but what the kernel keeps for it: buffers of at most 28 pipes or sockets, and page tables, at which
  the watching thread looks.
- processor and threads: RLIMIT_CPU and RLIMIT_NPROC (which counts per user namespace since Linux 5.14). All threads run
  on the core that the caller names, and not on those of other programs.
- output: at most `output_bytes` are read, then the sandbox is killed; standard error goes to /dev/null.
- time: when it is over process 1 of the pid namespace is killed, and with it the kernel kills all others there.
  bwrap does the same when the caller dies.
- the caller's files: the two files a sandbox inherits are sealed against writing and resizing.
"""

import fcntl
import functools
import logging
import math
import os
import platform
import random
import re
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from balanced_agg.rewards.bubblewrap import (
    ENTRY,
    ENTRY_INSIDE,
    ENVIRONMENT,
    PACKAGES,
    PACKAGES_INSIDE,
    START_SECONDS,
    bubblewrap,
    package_folders,
    packages_outside,
    python_command,
)
from balanced_agg.rewards.errors import GraderFailed
from balanced_agg.rewards.places import check_places
from balanced_agg.rewards.program_time import ProgramTime
from balanced_agg.rewards.seccomp import MACHINES, seccomp_filter

logger = logging.getLogger(__name__)

ALLOW_UNSANDBOXED = "reward.custom_reward_function.reward_kwargs.allow_unsandboxed_code=True"
LOOK_SECONDS = 0.05  # between two looks at what a program has used
THREADS = 64
DESCRIPTORS = 32
STACK_BYTES = 128 * 2**20  # deep recursion through C, as in functools.cache, needs more than the usual 8 MiB
PAGE_TABLES = 1 / 16  # of the memory limit; a program that uses its memory has 1/512
READY = b"ready"
# systemd's range of dynamic users. One for each sandbox of root's, because RLIMIT_NPROC counts by uid.
UIDS = range(61184, 65520)


@dataclass(frozen=True)
class Limits:
    """Of one run: seconds of its own, bytes of address space, bytes of standard output, a core, an end.

    Its own are the seconds in which it runs or sleeps, not those in which it waits for a core (`program_time`). `core`
    is the one that it runs on, of those that this process may use; without, it may use them all. `end` is the time, in
    seconds of `time.monotonic`, when the caller gives up.
    """

    seconds: float = 6.0
    memory_bytes: int = 2 * 2**30
    output_bytes: int = 16 * 2**20
    core: int | None = None
    end: float = math.inf


@dataclass(frozen=True)
class Execution:
    """What a script wrote to standard output, whether it ended by itself with exit status 0, and its own seconds."""

    output: bytes
    completed: bool
    seconds: float


def execute(script: str, stdin: bytes, limits: Limits, *, allow_unsandboxed: bool = False) -> Execution:
    """Run `script` in a new sandbox. The caller sees to it that not too many run at once (see `places`).

    Without a working sandbox: ValueError, or, given `allow_unsandboxed`, a run under resource limits only.
    GraderFailed if the sandbox did not get as far as the script, or the script had neither ended nor used up its
    seconds at the end that the caller has set.
    """
    if not allow_unsandboxed:
        _refuse_without_sandbox()
    elif _sandbox_problem():
        _warn_unsandboxed()
    return _execute(script, stdin, limits, sandboxed=not _sandbox_problem())


def check_sandbox() -> None:
    """ValueError that says what to install, enable or set, unless programs can be isolated on this machine."""
    check_places()
    _refuse_without_sandbox()


def _refuse_without_sandbox() -> None:
    if problem := _sandbox_problem():
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
    if missing := [name for name in PACKAGES if name not in package_folders()]:
        return f"programs import what is not installed (pip install {' '.join(missing)})"
    probe = "import threading\nthread = threading.Thread(target=print, args=['works'])\nthread.start()\nthread.join()"
    try:
        execution = _execute(probe, b"", Limits(seconds=START_SECONDS), sandboxed=True)
        failure = None if execution.output == b"works\n" else execution
    except subprocess.SubprocessError as error:
        return f"the interpreter does not say what it needs ({error}: {(error.stderr or b'')[-500:]!r})"
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


def _execute(script: str, stdin: bytes, limits: Limits, sandboxed: bool) -> Execution:
    with _pipe() as (ready, ready_inside):
        with _sealed(stdin) as stdin_fd, _sealed(script.encode()) as script_fd, _sealed(seccomp_filter()) as filter_fd:
            command = _python(script_fd, ready_inside.fileno(), limits, sandboxed)
            if sandboxed:
                command = [*bubblewrap(filter_fd), "--", *command]
            with _starts_on(limits.core):
                process = subprocess.Popen(
                    command,
                    stdin=stdin_fd,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,  # of bwrap, until the script starts
                    pass_fds=[script_fd, filter_fd, ready_inside.fileno()],
                    env=ENVIRONMENT,
                    cwd="/",
                    start_new_session=True,
                )
        ready_inside.close()
        with process:
            try:
                _wait_until_ready(process, ready)
                return _watch(process, limits, sandboxed)
            finally:
                _kill(process, sandboxed)


@contextmanager
def _pipe() -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    """Both ends, the one to read from first."""
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb", 0) as reader, os.fdopen(writing, "wb", 0) as writer:
        yield reader, writer


@contextmanager
def _starts_on(core: int | None) -> Iterator[None]:
    """What this thread starts meanwhile stays on this core, unless that is None, or is no longer this process's."""
    cores = os.sched_getaffinity(0)
    with suppress(OSError):
        os.sched_setaffinity(0, cores if core is None else {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def _wait_until_ready(process: subprocess.Popen, ready: IO[bytes]) -> None:
    """GraderFailed if a script does not start within START_SECONDS.

    That it does is not said on its standard output, which it could read back before it is read here.
    """
    if _read(ready, START_SECONDS) != READY:
        said = _read(process.stdout, 0.0) or b""
        raise GraderFailed(f"the sandbox did not start: {said[:500].decode(errors='replace')!r}")


def _watch(process: subprocess.Popen, limits: Limits, sandboxed: bool) -> Execution:
    """Read what a script writes until it has ended, which it is made to when it exceeds its limits."""
    output = bytearray()
    program = ProgramTime(_program(process) if sandboxed else process.pid)

    def exceeds() -> bool:
        if time.monotonic() > limits.end and process.poll() is None:
            given = f"{program.seconds:.1f} s of its {limits.seconds:g} s"
            raise GraderFailed(f"this machine gave a program {given} before the time for its grade was over")
        return program.look() >= limits.seconds or program.page_table_bytes() > PAGE_TABLES * limits.memory_bytes

    # This thread may be late: a script is killed before the last of its output is read, and if it had ended until then
    # that is its end.
    killed = at_end = False
    while len(output) <= limits.output_bytes and not (at_end and _status(process) is not None):
        if not killed and exceeds():
            _kill(process, sandboxed)
            killed = True
        if not at_end:
            chunk = _read(process.stdout, LOOK_SECONDS)
            at_end = not chunk and (killed or chunk is not None)
            output += chunk or b""
    completed = len(output) <= limits.output_bytes and process.returncode == 0
    return Execution(bytes(output[: limits.output_bytes]), completed, program.end(LOOK_SECONDS))


def _read(pipe: IO[bytes], seconds: float) -> bytes | None:
    """What comes next from a pipe, nothing at its end; None if that takes longer than so many seconds."""
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    return os.read(pipe.fileno(), 2**16) if poll.poll(1000 * seconds) else None


def _status(process: subprocess.Popen) -> int | None:
    """Exit status, None if it still runs at the next look."""
    try:
        return process.wait(LOOK_SECONDS)
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
    return _child(bubblewrap.pid) if bubblewrap.poll() is None else None


def _program(bubblewrap: subprocess.Popen) -> int | None:
    first = _first_process(bubblewrap)
    return first and _child(first)


def _child(pid: int) -> int | None:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return None
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


def _python(script_fd: int, ready_fd: int, limits: Limits, sandboxed: bool) -> list[str]:
    bounds = {
        "CPU": math.ceil(limits.seconds) + 1,
        "AS": limits.memory_bytes,
        "STACK": STACK_BYTES,
        "FSIZE": 0,
        "NOFILE": DESCRIPTORS,
        "SIGPENDING": 256,
        "MSGQUEUE": 0,
        "CORE": 1,  # unlike 0, also keeps the kernel from piping a dump to a crash handler
    }
    if sandboxed:
        bounds["NPROC"] = THREADS
    uid = str(random.SystemRandom().choice(UIDS)) if sandboxed and os.geteuid() == 0 else ""
    return [
        *python_command(),
        ENTRY_INSIDE if sandboxed else str(ENTRY),
        str(script_fd),
        str(ready_fd),
        uid,
        PACKAGES_INSIDE if sandboxed else packages_outside(),
        "small pages" if _huge_pages_unasked() else "",
        *(f"{name}={value}" for name, value in bounds.items()),
    ]


@functools.cache
def _huge_pages_unasked() -> bool:
    """Whether memory on this machine may be in huge pages, each of which stays whole while a part of it is mapped."""
    settings = list(Path("/sys/kernel/mm/transparent_hugepage").glob("**/enabled"))
    return not settings or any("[always]" in path.read_text() for path in settings)
