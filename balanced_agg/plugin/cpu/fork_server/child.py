"""How a forked child of the server becomes the Python process that was asked for."""

import ctypes
import fcntl
import multiprocessing
import os
import resource
import runpy
import signal
import sys
import types
from pathlib import Path

from setproctitle import getproctitle

from balanced_agg.plugin.cpu.fork_server.randomness import seed_anew

PR_SET_PDEATHSIG = 1
OOM_SCORE = Path("/proc/self/oom_score_adj")


def understands(argv: list[str]) -> bool:
    """Whether this command line is ``[-u] [-B] [-W…]`` and then a script, ``-c`` or ``-m``, with their arguments."""
    rest = without_options(argv)
    return bool(rest) and (not rest[0].startswith("-") or (rest[0] in ("-c", "-m") and len(rest) > 1))


def without_options(argv: list[str]) -> list[str]:
    # What is written is unbuffered below anyway; bytecode files and warnings are no part of what a process does.
    while argv and (argv[0] in ("-u", "-B") or argv[0].startswith("-W")):
        argv = argv[2 if argv[0] == "-W" else 1 :]
    return argv


def may_have(request: dict) -> bool:
    """Whether a child can give itself the asker's share of the machine: its niceness, OOM score, limits and cores.

    Not other cores, which imported libraries have counted; nor what takes privileges, a lower niceness or OOM score or
    another hard limit.
    """
    return (
        request["niceness"] >= os.getpriority(os.PRIO_PROCESS, 0)
        and request["oom_score"] >= int(OOM_SCORE.read_text())
        and all(resource.getrlimit(limit)[1] == hard for limit, _, hard in request["limits"])
        and request["cores"] == sorted(os.sched_getaffinity(0))
    )


def become(request: dict, interpreter: Path) -> None:
    """Take over files, environment, folder, share of the machine and signals, and run the command line.

    ``interpreter`` is given to the processes that multiprocessing starts from here: vLLM's engine.
    """
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # end with the server
    if "-c" in request["argv"]:  # multiprocessing's, not Ray's
        # vLLM's library for titles must find their place before the environment is another; Ray has its own, and the
        # first of the two wins.
        getproctitle()
    take_files(request["files"], request["received"])
    os.setpriority(os.PRIO_PROCESS, 0, request["niceness"])
    if int(OOM_SCORE.read_text()) != request["oom_score"]:  # a container may hold /proc read-only
        OOM_SCORE.write_text(str(request["oom_score"]))
    for limit, soft, hard in request["limits"]:
        resource.setrlimit(limit, (soft, hard))
    os.umask(request["umask"])
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    take_signals(request)
    multiprocessing.set_executable(str(interpreter))
    seed_anew()
    run(without_options(request["argv"]))


def take_files(numbers: list[int], received: list[int]) -> None:
    """Give each received file the number it has in the asking process."""
    out_of_the_way = max([2, *numbers]) + 1
    moved = [fcntl.fcntl(file, fcntl.F_DUPFD_CLOEXEC, out_of_the_way) for file in received]
    for file in received:
        os.close(file)
    for number, file in zip(numbers, moved, strict=True):
        os.dup2(file, number)
        os.close(file)
    sys.stdin = sys.__stdin__ = open(0, closefd=False)
    sys.stdout = sys.__stdout__ = open(1, "w", buffering=1, closefd=False)
    sys.stderr = sys.__stderr__ = open(2, "w", buffering=1, errors="backslashreplace", closefd=False)


def take_signals(request: dict) -> None:
    try:
        os.setpgid(0, request["group"])
    except PermissionError:
        os.setpgid(0, 0)  # the asking process is in another session
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in request["ignored"]:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, request["blocked"])


def run(argv: list[str]) -> None:
    kind, *rest = argv
    if kind == "-c":
        main = types.ModuleType("__main__")
        main.__builtins__ = __builtins__
        sys.modules["__main__"] = main
        sys.argv = ["-c", *rest[1:]]
        sys.path[0] = ""
        exec(compile(rest[0], "<string>", "exec"), main.__dict__)
    elif kind == "-m":
        sys.argv = rest
        sys.path[0] = os.getcwd()
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    else:
        sys.argv = argv
        sys.path[0] = os.path.dirname(os.path.abspath(kind))
        runpy.run_path(kind, run_name="__main__")
