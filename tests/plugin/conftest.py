"""Processes that import verl for the first time, as each process of a run does, and those that it is shared by."""

import multiprocessing
import os
import subprocess
from collections.abc import Callable
from multiprocessing import forkserver, resource_tracker, spawn
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest

from balanced_agg.plugin.cpu import fork_server
from tests.composed import ROOT

# Most of the time that importing verl takes.
IMPORTED_BY_VERL = (
    "accelerate",
    "datasets",
    "fastapi",
    "peft",
    "ray",
    "scipy.stats",
    "tensordict",
    "torch._dynamo",
    "torch._inductor.compile_fx",
    "transformers",
)


@pytest.fixture(scope="session")
def forked_python() -> tuple[Path, dict[str, str]]:
    """An interpreter and the variables to start it with, where nothing of verl, vLLM or the plugin has been imported.

    Its processes are forked from one that has imported what verl imports of others, and start in the tenth of the time.
    Nothing that the plugin or verl reads is inherited.
    """
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith(("BALANCED_AGG_", "VERL_", "VLLM_"))
    }
    path = os.pathsep.join([str(ROOT), *filter(None, [inherited.get("PYTHONPATH")])])
    environment = inherited | {"OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    return fork_server.start(IMPORTED_BY_VERL, environment), environment


@pytest.fixture(scope="session")
def fresh_process(forked_python) -> Callable[..., subprocess.CompletedProcess]:
    """Run code in such a process, under these variables."""
    interpreter, environment = forked_python

    def run(code: str, *arguments: str, cwd: Path = ROOT, **variables: str) -> subprocess.CompletedProcess:
        # Set by the code, since the server forks for no other values of some of them.
        code = f"import os; os.environ.update({variables!r})\n{code}"
        command = [str(interpreter), "-W", "ignore", "-c", code, *arguments]
        return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=cwd)

    return run


@pytest.fixture(scope="session")
def processes_with_verl(forked_python) -> ForkServerContext:
    """multiprocessing's processes, forked from such a process once it has imported what ranks of a test import."""
    interpreter, environment = forked_python
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
