"""This machine, and what a run needs of it: cores, memory, disk, Ray, wandb."""

import functools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from balanced_agg.commands.doctor.check import FAIL, OK, WARN, Check, described, gigabytes, warn_with
from balanced_agg.commands.doctor.recipe import Recipe
from balanced_agg.commands.recipes import root
from balanced_agg.plugin.checks import outputs
from balanced_agg.plugin.checks.cluster import RAY_INIT, named_cluster, ray_address_file
from balanced_agg.plugin.checks.memory import host_bytes

SHARED_MEMORY = Path("/dev/shm")
# The quickstart, the smallest run there is, was seen to use 7.3 GB.
SMALLEST_RUN = 8e9
# The object store of configs/hardware/cpu.yaml; containers come with 64 MB.
SMALLEST_OBJECT_STORE = 1e9
FREE_DISK = 5e9
# Above this share of a disk in use, Ray takes no more objects that it would have to spill.
RAY_DISK_LIMIT = 0.95
LOG_IN = "`wandb login`, or export WANDB_API_KEY; or WANDB_MODE=offline and `wandb sync` later"
RAY_SECONDS = 20  # a cluster that is there answers in 5
ASK_RAY = """
import json, ray, sys
ray.init(address=sys.argv[1], log_to_driver=False, configure_logging=False)
nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
print(json.dumps({"nodes": nodes, "free": ray.available_resources()}))
"""


def check_machine(recipe: Recipe) -> Iterator[Check]:
    cores = len(os.sched_getaffinity(0))
    yield warn_with(
        "one core is slow: the smallest recipe was tested on two" if cores < 2 else "", "CPU cores", str(cores)
    )
    total, available = host_bytes()
    remedy = f"end other programs: the smallest run takes {gigabytes(SMALLEST_RUN)}" if available < SMALLEST_RUN else ""
    yield warn_with(remedy, "memory", f"{gigabytes(available)} free of {gigabytes(total)}")
    yield check_shared_memory(recipe.get(f"{RAY_INIT}.object_store_memory"))
    yield from check_disk(recipe)
    if not recipe.refused_by("cluster"):
        yield check_ray(recipe)
    if not recipe.refused_by("loggers"):
        yield check_wandb(recipe)


def check_shared_memory(object_store: int | None) -> Check:
    if not SHARED_MEMORY.exists():
        return Check("/dev/shm", WARN, "not there: Ray's object store goes to disk", "mount a tmpfs on /dev/shm")
    free = shutil.disk_usage(SHARED_MEMORY).free
    needed = object_store or SMALLEST_OBJECT_STORE
    if free >= needed:
        return Check("/dev/shm", OK, f"{gigabytes(free)} free for Ray's object store")
    whose = "ray_kwargs.ray_init.object_store_memory" if object_store else "a small object store"
    detail = f"{gigabytes(free)} free, {whose} is {gigabytes(needed)}"
    return Check("/dev/shm", WARN, detail, f"in a container: --shm-size={needed / 1e9:.0f}g")


def check_disk(recipe: Recipe) -> Iterator[Check]:
    """Where the run goes, and where Ray spills to. The checkpoints have a line of their own."""
    folder = recipe.get("run.dir") or root() / "outputs"
    free = shutil.disk_usage(outputs.nearest_existing(folder)).free
    remedy = "make room, or set run.dir to another disk" if free < FREE_DISK else ""
    yield warn_with(remedy, "disk, outputs", f"{gigabytes(free)} free in {folder}")
    folder = ray_address_file(recipe.config).parent
    usage = shutil.disk_usage(outputs.nearest_existing(folder))
    full = 1 - usage.free / usage.total
    remedy = "make room, or export RAY_TMPDIR on another disk" if full > RAY_DISK_LIMIT else ""
    yield warn_with(remedy, "disk, Ray", f"{gigabytes(usage.free)} free in {folder}, {full:.0%} in use")


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
    """Which cluster a run would have; whether it is enough for a recipe, recipe_lines.py says."""
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


def check_wandb(recipe: Recipe) -> Check:
    """The mode is the recipe's, which WANDB_MODE sets and is offline by default. No key is shown.

    A recipe that needs a key here is refused by its launch check; on a cluster, the nodes may have one of their own.
    """
    if recipe.config and "wandb" not in recipe.config.trainer.logger:
        return Check("wandb", OK, "not among trainer.logger")
    mode = recipe.get(f"{RAY_INIT}.runtime_env.env_vars.WANDB_MODE") or os.environ.get("WANDB_MODE")
    mode = mode or ("online" if recipe.config else "offline")
    try:
        known = outputs.logged_in()
        detail = f"{mode}, {'logged in' if known else 'not logged in'}"
    except Exception as error:  # of wandb, or of a file that it reads
        known, detail = False, f"{mode}; no login: {described(error)}"
    if mode == "online" and not known:
        return Check("wandb", WARN if recipe.config else FAIL, detail, LOG_IN)
    offline = ": runs stay on this disk until `wandb sync`" if mode == "offline" else ""
    return Check("wandb", OK, detail + offline)
