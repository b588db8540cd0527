"""Processes that import verl for the first time, as each process of a run does: what the plugin does by then."""

import os
import subprocess
from collections.abc import Callable
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
def fresh_process() -> Callable[..., subprocess.CompletedProcess]:
    """Run code where nothing of verl, vLLM or the plugin has been imported, under these variables.

    The process is forked from one that has imported what verl imports of others, and starts in the tenth of the time.
    Nothing that the plugin or verl reads is inherited.
    """
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith(("BALANCED_AGG_", "VERL_", "VLLM_"))
    }
    path = os.pathsep.join([str(ROOT), *filter(None, [inherited.get("PYTHONPATH")])])
    environment = inherited | {"OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    interpreter = fork_server.start(IMPORTED_BY_VERL, environment)

    def run(code: str, *arguments: str, cwd: Path = ROOT, **variables: str) -> subprocess.CompletedProcess:
        # Set by the code, since the server forks for no other values of some of them.
        code = f"import os; os.environ.update({variables!r})\n{code}"
        command = [str(interpreter), "-W", "ignore", "-c", code, *arguments]
        return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=cwd)

    return run
