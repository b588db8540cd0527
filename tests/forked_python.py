"""A Python in which nothing of verl, vLLM or the plugin has been imported, and which starts in the tenth of the time.

Its processes are forked from one that has imported what verl imports of others. Nothing that the plugin or verl reads
is inherited.
"""

import os
from pathlib import Path

from balanced_agg.plugin.cpu import fork_server

ROOT = Path(__file__).parent.parent
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


def environment() -> dict[str, str]:
    """The variables to start it with."""
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith(("BALANCED_AGG_", "VERL_", "VLLM_"))
    }
    path = os.pathsep.join([str(ROOT), *filter(None, [inherited.get("PYTHONPATH")])])
    return inherited | {"OMP_NUM_THREADS": "1", "PYTHONPATH": path}


def start() -> Path:
    """The interpreter, until this process ends."""
    return fork_server.start(IMPORTED_BY_VERL, environment())
