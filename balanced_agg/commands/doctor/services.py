"""Ray, the sandbox for programs, and wandb."""

import functools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import torch

from balanced_agg.commands.doctor.check import FAIL, OK, WARN, Check, described
from balanced_agg.commands.doctor.recipe import Recipe
from balanced_agg.plugin.checks.cluster import RAY_INIT, named_cluster

LOG_IN = "`wandb login`, or export WANDB_API_KEY; or WANDB_MODE=offline and `wandb sync` later"
RAY_SECONDS = 20  # a cluster that is there answers in 5
ASK_RAY = """
import json, ray, sys
ray.init(address=sys.argv[1], log_to_driver=False, configure_logging=False)
nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
print(json.dumps({"nodes": nodes, "free": ray.available_resources()}))
"""


def check_services(recipe: Recipe) -> Iterator[Check]:
    if not recipe.refused_by("cluster"):
        yield check_ray(recipe)
    yield check_sandbox()
    if not recipe.refused_by("loggers"):
        yield check_wandb(recipe)


def cluster(recipe: Recipe) -> dict[str, Any] | None:
    """What the Ray cluster that a run would join has: {"nodes": resources of each, "free": of all}, or {"error": why}.

    None where verl starts one of its own.
    """
    named = named_cluster(recipe.config)
    return named and ask_ray(named[1])


@functools.cache
def ask_ray(address: str) -> dict[str, Any]:
    """Ask a cluster from a process of its own: Ray may wait for minutes, or end the process that asks."""
    command = [sys.executable, "-c", ASK_RAY, address]
    try:
        done = subprocess.run(command, timeout=RAY_SECONDS, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired:
        return {"error": f"no answer within {RAY_SECONDS} s"}
    if done.returncode == 0:
        return json.loads(done.stdout.splitlines()[-1])
    return {"error": (done.stderr.strip() or f"exit status {done.returncode}").splitlines()[-1]}


def check_ray(recipe: Recipe) -> Check:
    """Which cluster a run would have; whether it is enough for a recipe is recipe_lines' to say."""
    there = cluster(recipe)
    if there is None:
        cpus = recipe.get(f"{RAY_INIT}.num_cpus") or os.cpu_count()
        gpus = recipe.get(f"{RAY_INIT}.num_gpus") or torch.cuda.device_count()
        detail = f"no cluster is running; verl starts one here, of {cpus} CPUs and {gpus} GPUs (logical)"
        return Check("Ray", OK, detail)
    who, address = named_cluster(recipe.config)
    if "error" in there:
        remedy = f"start that cluster again, or {'delete' if who.startswith('/') else 'unset'} {who}"
        detail = f"cannot join the cluster at {address}, which {who} names: {there['error']}"
        return Check("Ray", FAIL, detail, f"{remedy}; RAY_AUTH_MODE and token as it has")
    resources = ", ".join(
        f"{sum(node.get(kind, 0) for node in there['nodes']):g} {kind}s ({there['free'].get(kind, 0):g} free)"
        for kind in ("CPU", "GPU")
    )
    return Check("Ray", OK, f"cluster at {address}: {len(there['nodes'])} nodes, {resources}")


def check_sandbox() -> Check:
    """Only some recipes run programs; one that does is refused by its launch check."""
    from balanced_agg.rewards import sandbox

    try:
        sandbox.check_sandbox()
    except ValueError as error:
        remedy = "programs are graded for livecodebench only; reward.sandbox_fusion.url names a service instead"
        return Check("sandbox", WARN, str(error).partition(". ")[0], remedy)
    return Check("sandbox", OK, "bubblewrap isolates programs here")


def check_wandb(recipe: Recipe) -> Check:
    """The mode is the recipe's, which WANDB_MODE sets and is offline by default. No key is shown.

    A recipe that needs a key here is refused by its launch check; on a cluster, the nodes may have one of their own.
    """
    from balanced_agg.plugin.checks.outputs import logged_in

    if recipe.config and "wandb" not in recipe.config.trainer.logger:
        return Check("wandb", OK, "not among trainer.logger")
    mode = recipe.get(f"{RAY_INIT}.runtime_env.env_vars.WANDB_MODE") or os.environ.get("WANDB_MODE")
    mode = mode or ("online" if recipe.config else "offline")
    try:
        known = logged_in()
        detail = f"{mode}, {'logged in' if known else 'not logged in'}"
    except Exception as error:  # of wandb, or of a file that it reads
        known, detail = False, f"{mode}; no login: {described(error)}"
    if mode == "online" and not known:
        return Check("wandb", WARN if recipe.config else FAIL, detail, LOG_IN)
    offline = ": runs stay on this disk until `wandb sync`" if mode == "offline" else ""
    return Check("wandb", OK, detail + offline)
