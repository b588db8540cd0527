"""Train a recipe on a running Ray cluster. Its output comes here, its exit status is this one's, Ctrl-C stops it.

The environment (or image) is the same on all nodes, at the same path, and the working directory of runs on a file
system that they share: nothing is uploaded. Of the environment here the job sees what :func:`passed_on` lets through.
"""

import os
import re
import shlex
import sys
import uuid
from collections.abc import Mapping, Sequence

from balanced_agg.commands.cluster import auth_token
from balanced_agg.commands.recipes import check_recipe_name, root
from balanced_agg.commands.terminal import errors_in_one_line

PASSED_ON = re.compile(r"(BALANCED_AGG|VERL|VLLM|WANDB)_\w+|HF_HUB_OFFLINE|OMP_NUM_THREADS")
SECRET = re.compile(r"KEY|TOKEN|SECRET|PASSWORD")


def run(recipe: str, ray_address: str | None, nodes: int | None, wait: float, overrides: Sequence[str]) -> int:
    """The exit status of the run, 1 if the cluster does not take it, 2 for what cannot be submitted.

    `ray_address` is the URL of the dashboard; `wait` seconds for the cluster and `nodes` of its nodes.
    """
    with errors_in_one_line("submit"):
        check_recipe_name(recipe)
        if not ray_address:
            raise ValueError("which cluster? --ray-address http://HEAD:8265, or export RAY_API_SERVER_ADDRESS")
        if not os.environ.get("RAY_AUTH_TOKEN"):  # that is how a pod of KubeRay has it
            auth_token.require()
    os.environ["RAY_API_SERVER_ADDRESS"] = ray_address  # Ray prefers the variable to any argument
    from balanced_agg.commands.cluster import ray_job

    own = ["cluster=existing", *([f"trainer.nnodes={nodes}"] if nodes else [])]
    train = [sys.executable, "-m", "balanced_agg", "train", recipe, *own, *overrides]
    with errors_in_one_line("submit", *ray_job.FAILURES):
        return ray_job.run(
            ray_job.connect(ray_address, wait, nodes or 1),
            ray_address,
            job=f"{recipe}-{uuid.uuid4().hex[:8]}",
            entrypoint=shlex.join(train),
            environment=passed_on(os.environ),
        )


def passed_on(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables of the job: none that may be a secret, since Ray shows them.

    A run sets some of them for its actors too, to what it reads here: its own must win.
    """
    mine = {k: v for k, v in environment.items() if PASSED_ON.fullmatch(k) and not SECRET.search(k)}
    return mine | {"BALANCED_AGG_ROOT": str(root()), "RAY_OVERRIDE_JOB_RUNTIME_ENV": "1"}
