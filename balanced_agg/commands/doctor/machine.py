"""Cores, memory, shared memory and disk of this machine."""

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from balanced_agg.commands.doctor.check import OK, WARN, Check, gigabytes
from balanced_agg.commands.doctor.recipe import Recipe
from balanced_agg.commands.recipes import root
from balanced_agg.plugin.checks.cluster import RAY_INIT, ray_address_file

SHARED_MEMORY = Path("/dev/shm")
# The quickstart, the smallest run there is, was seen to use 7.3 GB.
SMALLEST_RUN = 8e9
# The object store of configs/hardware/cpu.yaml; containers come with 64 MB.
SMALLEST_OBJECT_STORE = 1e9
FREE_DISK = 5e9
# Above this share of a disk in use, Ray takes no more objects that it would have to spill.
RAY_DISK_LIMIT = 0.95


def check_machine(recipe: Recipe) -> Iterator[Check]:
    cores = len(os.sched_getaffinity(0))
    few = "" if cores > 1 else "one core is slow: the smallest recipe was tested on two"
    yield Check("CPU cores", WARN if few else OK, str(cores), few)
    yield _memory()
    yield _shared_memory(recipe.get(f"{RAY_INIT}.object_store_memory"))
    yield from _disk(recipe)


def memory() -> tuple[int, int]:
    """(total, available) bytes for this process: of the machine, or of its cgroup where that has less."""
    lines = dict(re.findall(r"(\w+):\s+(\d+) kB", Path("/proc/meminfo").read_text()))
    total, available = (int(lines[name]) * 1024 for name in ("MemTotal", "MemAvailable"))
    limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    if limit.exists() and (bound := limit.read_text().strip()).isdecimal():
        total, available = min(total, int(bound)), min(available, int(bound) - int(used.read_text()))
    return total, available


def existing(path: str | Path) -> Path:
    """The path, or the nearest folder above it that exists: that is the disk it will be on."""
    path = Path(path).absolute()
    return next(folder for folder in (path, *path.parents) if folder.exists())


def _memory() -> Check:
    total, available = memory()
    detail = f"{gigabytes(available)} free of {gigabytes(total)}"
    if available < SMALLEST_RUN:
        return Check("memory", WARN, detail, f"end other programs: the smallest run takes {gigabytes(SMALLEST_RUN)}")
    return Check("memory", OK, detail)


def _shared_memory(object_store: int | None) -> Check:
    if not SHARED_MEMORY.exists():
        return Check("/dev/shm", WARN, "not there: Ray's object store goes to disk", "mount a tmpfs on /dev/shm")
    free = shutil.disk_usage(SHARED_MEMORY).free
    needed = object_store or SMALLEST_OBJECT_STORE
    whose = "ray_kwargs.ray_init.object_store_memory" if object_store else "a small object store"
    if free < needed:
        remedy = f"in a container: --shm-size={needed / 1e9:.0f}g"
        return Check("/dev/shm", WARN, f"{gigabytes(free)} free, {whose} is {gigabytes(needed)}", remedy)
    return Check("/dev/shm", OK, f"{gigabytes(free)} free for Ray's object store")


def _disk(recipe: Recipe) -> Iterator[Check]:
    """Where the run and its checkpoints go, and where Ray spills to."""
    folders = {"outputs": recipe.get("run.dir") or root() / "outputs"}
    saved = recipe.get("trainer.default_local_dir")
    if saved and existing(saved).stat().st_dev != existing(folders["outputs"]).stat().st_dev:
        folders["checkpoints"] = saved
    for name, folder in folders.items():
        free = shutil.disk_usage(existing(folder)).free
        remedy = "make room, or set run.dir to another disk" if free < FREE_DISK else ""
        yield Check(f"disk, {name}", WARN if remedy else OK, f"{gigabytes(free)} free in {folder}", remedy)

    folder = ray_address_file(recipe.config).parent
    usage = shutil.disk_usage(existing(folder))
    full = 1 - usage.free / usage.total
    remedy = "make room, or export RAY_TMPDIR on another disk" if full > RAY_DISK_LIMIT else ""
    yield Check(
        "disk, Ray", WARN if remedy else OK, f"{gigabytes(usage.free)} free in {folder}, {full:.0%} in use", remedy
    )
