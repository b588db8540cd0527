"""Processes that import verl for the first time, as each process of a run does, and those that it is shared by."""

import multiprocessing
import subprocess
from collections.abc import Callable
from multiprocessing import forkserver, resource_tracker, spawn
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest

from tests import forked_python
from tests.composed import ROOT


@pytest.fixture(scope="session")
def interpreter(request) -> Path:
    """That of tests/forked_python.py; under xdist the one that all workers share."""
    shared = getattr(request.config, "workerinput", {}).get("forked_python")
    return Path(shared) if shared else forked_python.start()


@pytest.fixture(scope="session")
def fresh_process(interpreter) -> Callable[..., subprocess.CompletedProcess]:
    """Run code in such a process, under these variables."""
    environment = forked_python.environment()

    def run(code: str, *arguments: str, cwd: Path = ROOT, **variables: str) -> subprocess.CompletedProcess:
        # Set by the code, since the server forks for no other values of some of them.
        code = f"import os; os.environ.update({variables!r})\n{code}"
        command = [str(interpreter), "-W", "ignore", "-c", code, *arguments]
        return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=cwd)

    return run


@pytest.fixture(scope="session")
def processes_with_verl(interpreter) -> ForkServerContext:
    """multiprocessing's processes, forked from such a process once it has imported what ranks of a test import."""
    environment = forked_python.environment()
    context = multiprocessing.get_context("forkserver")
    # The plugin's contracts name the trainer, and FSDP2 compiles a hook, at the first update of each.
    context.set_forkserver_preload(["tests.tools.fuzz", "verl.trainer.ppo.v1.trainer_base", "verl.checkpoint_engine"])
    resource_tracker.ensure_running()
    own = spawn.get_executable()
    with pytest.MonkeyPatch.context() as patch:
        for name in ("OMP_NUM_THREADS", "PYTHONPATH"):
            patch.setenv(name, environment[name])
        spawn.set_executable(str(interpreter))
        forkserver.ensure_running()
    spawn.set_executable(own)
    return context
