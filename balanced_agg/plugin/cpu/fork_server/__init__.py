"""Python processes that start with everything imported, on a machine whose cores are few.

A run on a CPU starts about twenty Python processes, many of them one after the other (Ray's workers, vLLM's engine),
and most of what each does before its first useful line is to import torch, transformers, vLLM and verl.
Here one process, the server, imports them once. Ray and multiprocessing are given another interpreter, ``python`` in
the server's folder, which asks the server to fork: the child takes over the asker's command line, environment, folder,
umask, process group, niceness, OOM score, limits and open files, and runs what ``python`` would have run.

    server.py    imports, then forks a child for each request; ends, and its children with it, when its starter does
    python.py    what that interpreter runs: asks, forwards signals, exits as the child does
    child.py     what a child does to become the process that was asked for
    randomness.py
                 what one child draws at random the next does not

Whatever would differ from a fresh interpreter is refused, and ``python.py`` then executes the real one.
"""

import os
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

# Read by the interpreter, Ray's core or another library as it is loaded: a fork cannot make up for another value.
READ_AT_START = (
    "RAY_JOB_ID",
    "RAY_RAYLET_PID",
    "LD_LIBRARY_PATH",
    "PYTHONPATH",
    "PYTHONHOME",
    "PYTHONHASHSEED",
    "OMP_NUM_THREADS",
    "HF_HUB_OFFLINE",
    "HF_HOME",
    "TRANSFORMERS_OFFLINE",
    "TORCHDYNAMO_DISABLE",
    "VERL_PLATFORM",
    "VERL_USE_EXTERNAL_MODULES",
    "VLLM_TARGET_DEVICE",
)


def start(modules: Iterable[str], environment: Mapping[str, str], early: Iterable[str] = ()) -> Path:
    """Start a server that imports ``modules`` under ``environment``; returns the interpreter to give to others.

    They are imported for the first request, whose environment they may read; those of ``early`` at once. It does not
    wait for the imports: who asks too early waits. The server and its children end when this process does,
    however it ends. Where the folder for temporary files may hold no programs (``noexec``) there is no server, and the
    interpreter is this one.
    """
    folder = Path(tempfile.mkdtemp(prefix="balanced-agg-"))
    interpreter = folder / "python"
    # The shell starts it: behind #! no path may have a space or, on old kernels, more than 127 bytes.
    command = [sys.executable, "-P", "-S", str(Path(__file__).with_name("python.py")), str(folder / "socket")]
    interpreter.write_bytes(os.fsencode(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n'))
    interpreter.chmod(0o700)
    if not os.access(interpreter, os.X_OK):
        shutil.rmtree(folder)
        return Path(sys.executable)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "socket"))
        listener.listen(64)
        arguments = [str(folder), str(listener.fileno()), ",".join(early), *modules]
        subprocess.Popen(
            [sys.executable, "-m", f"{__name__}.server", *arguments],
            env=dict(environment),
            stdin=subprocess.PIPE,  # never written to: its end tells the server that this process is gone
            pass_fds=[listener.fileno()],
        )
    return interpreter


def start_values(environment: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """What must be equal in the server and in a child."""
    values: dict[str, Any] = {name: environment.get(name) for name in READ_AT_START}
    # cv2 puts its folder first at every import, in each generation of processes once more, which changes nothing.
    values["LD_LIBRARY_PATH"] = list(dict.fromkeys(environment.get("LD_LIBRARY_PATH", "").split(":")))
    return values
