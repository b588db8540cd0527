"""What a recipe asks for, against what is here. What cannot work at all, the launch checks say."""

import math
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from verl.trainer.ppo.utils import need_critic

from balanced_agg.commands.doctor.check import FAIL, OK, WARN, Check, gigabytes
from balanced_agg.commands.doctor.machine import cluster
from balanced_agg.commands.doctor.memory_lines import memory_lines
from balanced_agg.commands.doctor.recipe import Recipe
from balanced_agg.plugin.checks.cluster import CPUS_PER_RANK, RAY_INIT, needed_cpus
from balanced_agg.plugin.checks.outputs import nearest_existing
from balanced_agg.plugin.guard import checkpoints
from balanced_agg.plugin.wrapping import switched_on

# fp32 weights and the two moments of Adam, with room for gradients; see configs/paper.yaml.
CHECKPOINT_BYTES = 16  # a parameter
UNITS = {"m": 1e6, "b": 1e9}


def check_recipe(recipe: Recipe) -> Iterator[Check]:
    if recipe.config:
        try:
            yield from asked_for(recipe)
        except Exception:
            if not recipe.refusals:  # of which it comes
                raise
    yield from recipe.refusals


def asked_for(recipe: Recipe) -> Iterator[Check]:
    """Yield what the recipe needs, against what is there. Raises whatever a value that is refused leads to."""
    trainer, actor = recipe.config.trainer, recipe.config.actor_rollout_ref.actor
    ranks = f"{trainer.nnodes} x {trainer.n_gpus_per_node} {'ranks on CPU' if trainer.device == 'cpu' else 'GPUs'}"
    yield Check("recipe", OK, f"{recipe.name}: loss_agg_mode={actor.loss_agg_mode}, {ranks}")
    there = cluster(recipe)
    if not recipe.refused_by("cluster", "gpus", "ray_cpus") and "error" not in (there or {}):
        yield placement(recipe, there)
    if not recipe.refused_by("chat_template", "model_files"):
        yield model(recipe.config.actor_rollout_ref.model.path)
    yield from memory_lines(recipe)
    yield check_checkpoints(recipe)


def placement(recipe: Recipe, there: dict[str, Any] | None) -> Check:
    """Hold the ranks against a cluster: verl makes one placement group a node, of its ranks' CPUs and GPUs together.

    Args:
        there: the cluster that the run would join; None for one that verl starts here, which the launch checks judge.
    """
    trainer, needed = recipe.config.trainer, needed_cpus(recipe.config)
    gpus, cpus = trainer.n_gpus_per_node, trainer.n_gpus_per_node * CPUS_PER_RANK
    asked = f"asked: {trainer.nnodes} x ({gpus} GPUs, {cpus} CPUs), {needed} CPUs in all"
    if there is None:
        here = recipe.get(f"{RAY_INIT}.num_gpus") or torch.cuda.device_count()
        return Check("placement", OK, f"{asked}; here: {here} GPUs")
    fitting = sum(node.get("GPU", 0) >= gpus and node.get("CPU", 0) >= cpus for node in there["nodes"])
    all_cpus = sum(node.get("CPU", 0) for node in there["nodes"])
    detail = f"{asked}; the cluster has {fitting} such nodes, {all_cpus:g} CPUs in all"
    if fitting < trainer.nnodes or all_cpus < needed:
        remedy = "add nodes or CPUs (`ray start --num-cpus`, a logical count), or set hardware to a smaller one"
        return Check("placement", FAIL, f"{detail}: Ray would wait forever", remedy)
    free_gpus, free_cpus = (there["free"].get(kind, 0) for kind in ("GPU", "CPU"))
    if free_gpus < trainer.nnodes * gpus or free_cpus < needed:
        detail += f", of which {free_gpus:g} GPUs and {free_cpus:g} CPUs are free"
        return Check("placement", WARN, detail, "the run waits until another one ends")
    return Check("placement", OK, detail)


def model(path: str) -> Check:
    """Where the weights come from: a folder, the hub, or elsewhere."""
    if "://" in path:
        return Check("model", OK, f"{path}: verl fetches it")
    folder = Path(path).expanduser()
    if folder.is_absolute() or folder.exists():
        return Check("model", OK, path)
    from huggingface_hub import try_to_load_from_cache

    if isinstance(try_to_load_from_cache(path, "config.json"), str):
        return Check("model", OK, f"{path}, in the hub's cache")
    detail = f"{path} is not in the hub's cache: verl downloads it"
    return Check("model", WARN, detail, f"`hf download {path}` beforehand")


def check_checkpoints(recipe: Recipe) -> Check:
    """Hold the checkpoints against the free disk, if the model's size is told by its name in the hardware file."""
    folder, count = recipe.config.trainer.default_local_dir, checkpoints_on_disk(recipe)
    if count == 0:
        return Check("checkpoints", OK, "none are written: trainer.save_freq is not above 0")
    size = re.fullmatch(r"([\d.]+)([mb])", str(recipe.get("run.model_size")))
    if size is None:
        return Check("checkpoints", OK, f"of unknown size, in {folder}")
    each = float(size[1]) * UNITS[size[2]] * CHECKPOINT_BYTES
    if count is None:
        detail = f"about {gigabytes(each)} each, without a limit to their number"
        return Check("checkpoints", WARN, f"{detail}, in {folder}", "set trainer.max_actor_ckpt_to_keep")
    free = shutil.disk_usage(nearest_existing(folder)).free
    detail = f"at most {count} x {gigabytes(each)}, {gigabytes(free)} free in {folder}"
    if count * each > free:
        return Check("checkpoints", FAIL, detail, "make room, or set run.dir or trainer.max_actor_ckpt_to_keep")
    return Check("checkpoints", OK, detail)


def checkpoints_on_disk(recipe: Recipe) -> int | None:
    """How many checkpoints lie on disk at most; None if that cannot be told."""
    trainer = recipe.config.trainer
    if trainer.save_freq <= 0:
        return 0
    asynchronous = recipe.get("actor_rollout_ref.actor.checkpoint.async_save")  # which the guard leaves to verl
    guarded = switched_on("BALANCED_AGG_GUARD") and not asynchronous
    at_once = checkpoints.most_on_disk(checkpoints.to_keep(trainer, need_critic(recipe.config)), guarded)
    made = math.ceil(trainer.total_training_steps / trainer.save_freq) if trainer.total_training_steps else None
    return min((count for count in (at_once, made) if count), default=None)
