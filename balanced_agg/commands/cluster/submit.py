"""Train a recipe on a Ray cluster that is there. Its output comes here, its exit status is this one's, Ctrl-C stops it.

The checkout (or image) is the same on all nodes, at the same path, and the run folder on a file system that they share:
nothing is uploaded. The job sees the environment of the head, and what is exported here of BALANCED_AGG_*, VERL_*,
VLLM_*, WANDB_*, HF_HUB_OFFLINE and OMP_NUM_THREADS; names with KEY, TOKEN, SECRET or PASSWORD stay here, since Ray
shows a job's variables: export those where the nodes are started.
"""

import argparse
import os
import re
import shlex
import sys
import uuid
from collections.abc import Mapping
from pathlib import Path

import balanced_agg
from balanced_agg.commands.cluster import auth_token

CHECKOUT = Path(balanced_agg.__file__).parent.parent
PASSED_ON = re.compile(r"(BALANCED_AGG|VERL|VLLM|WANDB)_\w+|HF_HUB_OFFLINE|OMP_NUM_THREADS")
SECRET = re.compile(r"KEY|TOKEN|SECRET|PASSWORD")


def main(arguments: list[str], checkout: Path = CHECKOUT) -> int:
    parser = argparse.ArgumentParser(
        prog="scripts/submit.sh",
        usage="%(prog)s RECIPE [--ray-address URL] [--nodes N] [--wait SECONDS] [Hydra overrides…]",
        description=__doc__,
        allow_abbrev=False,
    )
    parser.add_argument("recipe", metavar="RECIPE", help="a file of recipes/")
    parser.add_argument(
        "--ray-address",
        metavar="URL",
        default=os.environ.get("RAY_API_SERVER_ADDRESS"),
        help="the dashboard of the cluster's head, http://HEAD:8265 (default: RAY_API_SERVER_ADDRESS)",
    )
    parser.add_argument("--nodes", type=int, metavar="N", help="train on N nodes, and wait until they are there")
    parser.add_argument("--wait", type=float, default=60, metavar="SECONDS", help="for the cluster (default: 60)")
    options, overrides = parser.parse_known_args(arguments)
    if not (checkout / f"recipes/{options.recipe}.yaml").is_file():
        parser.error(f"there is no recipe {options.recipe} in {checkout}/recipes")
    if not options.ray_address:
        parser.error("which cluster? --ray-address http://HEAD:8265, or export RAY_API_SERVER_ADDRESS")
    try:
        if not os.environ.get("RAY_AUTH_TOKEN"):  # that is how a pod of KubeRay has it
            auth_token.require()
    except ValueError as error:
        parser.error(str(error))

    os.environ["RAY_API_SERVER_ADDRESS"] = options.ray_address  # Ray prefers the variable to any argument
    from balanced_agg.commands.cluster import ray_job

    try:
        return ray_job.run(
            ray_job.connect(options.ray_address, options.wait, options.nodes or 1),
            options.ray_address,
            job=f"{options.recipe}-{uuid.uuid4().hex[:8]}",
            entrypoint=shlex.join(train_command(checkout, options.recipe, options.nodes, overrides)),
            environment=passed_on(os.environ),
        )
    except ray_job.FAILURES as error:
        sys.exit(f"submit: {error}")


def train_command(checkout: Path, recipe: str, nodes: int | None, overrides: list[str]) -> list[str]:
    own = ["cluster=existing", *([f"trainer.nnodes={nodes}"] if nodes else [])]
    return ["bash", str(checkout / "scripts/train.sh"), recipe, *own, *overrides]


def passed_on(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables of the job. A run sets some of them for its actors too, to what it reads here: its own must win."""
    mine = {k: v for k, v in environment.items() if PASSED_ON.fullmatch(k) and not SECRET.search(k)}
    return mine | {"RAY_OVERRIDE_JOB_RUNTIME_ENV": "1"}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
