"""What a recipe asks for, against what is here."""

import re
import shutil
from collections.abc import Iterator
from typing import Any

from balanced_agg.commands.doctor.check import FAIL, OK, WARN, Check, gigabytes
from balanced_agg.commands.doctor.facts import Facts
from balanced_agg.commands.doctor.machine import existing

# fp32 weights and the two moments of Adam, with room for gradients; see configs/paper.yaml.
CHECKPOINT_BYTES = 16  # a parameter
UNITS = {"m": 1e6, "b": 1e9}


def check_recipe(facts: Facts, name: str) -> Iterator[Check]:
    """Nothing where verl could not be asked."""
    recipe = facts.verl.get("recipe")
    if recipe is None:
        return
    if "error" in recipe:
        if recipe["error"] == facts.verl["platform"].get("error"):
            return  # a line of its own
        yield Check(
            "recipe", FAIL, f"{name}: {recipe['error']}", f"see `balanced-agg train {name} --cfg job --resolve`"
        )
        return
    asks = recipe["asks"]
    ranks = f"{asks['nodes']} x {asks['ranks_a_node']} {'ranks on CPU' if asks['device'] == 'cpu' else 'GPUs'}"
    yield Check("recipe", OK, f"{name}: loss_agg_mode={asks['mode']}, {ranks}")
    if "error" not in facts.ray and not facts.refused("cluster", "gpus", "ray_cpus"):
        yield _placement(facts, asks)
    if not facts.refused("chat_template", "model_files"):
        yield _model(asks["model"])
    for data in recipe["data"]:
        if not facts.refused("columns"):
            rows = "" if data["rows"] is None else f": {data['rows']} rows"
            yield Check(data["key"].removeprefix("data."), OK, f"{data['file']}{rows}")
    yield _checkpoints(asks)
    for refusal in recipe["refusals"]:
        yield Check(f"refused: {refusal['check']}", FAIL, refusal["what"], refusal["remedy"])


def _placement(facts: Facts, asks: dict[str, Any]) -> Check:
    """verl puts all ranks of a node into one placement group: each node must hold its own, CPUs and GPUs together."""
    cpus_a_node = asks["ranks_a_node"] * asks["cpus_a_rank"]
    asked = (
        f"asked: {asks['nodes']} x ({asks['ranks_a_node']} GPUs, {cpus_a_node} CPUs), {asks['ray_cpus']} CPUs in all"
    )
    if facts.ray["address"] is not None:
        return _in_cluster(asks, facts.ray["nodes"], facts.ray["free"], cpus_a_node, asked)
    gpus = asks["num_gpus"] or len(facts.verl["accelerators"].get("devices", []))
    return Check("placement", OK, f"{asked}; here: {gpus} GPUs")


def _in_cluster(asks: dict[str, Any], nodes: list[dict], free: dict, cpus_a_node: int, asked: str) -> Check:
    gpus = asks["ranks_a_node"]
    fitting = sum(node.get("GPU", 0) >= gpus and node.get("CPU", 0) >= cpus_a_node for node in nodes)
    cpus = sum(node.get("CPU", 0) for node in nodes)
    detail = f"{asked}; the cluster has {fitting} such nodes, {cpus:g} CPUs in all"
    if fitting < asks["nodes"] or cpus < asks["ray_cpus"]:
        remedy = "add nodes or CPUs (`ray start --num-cpus`, a logical count), or set hardware to a smaller one"
        return Check("placement", FAIL, f"{detail}: Ray would wait forever", remedy)
    if free.get("GPU", 0) < asks["nodes"] * gpus or free.get("CPU", 0) < asks["ray_cpus"]:
        detail += f", of which {free.get('GPU', 0):g} GPUs and {free.get('CPU', 0):g} CPUs are free"
        return Check("placement", WARN, detail, "the run waits until another one ends")
    return Check("placement", OK, detail)


def _model(model: dict[str, Any]) -> Check:
    path = model["path"]
    if model["kind"] == "remote":
        return Check("model", OK, f"{path}: verl fetches it")
    if model["kind"] == "folder":
        return Check("model", OK, path)
    if model["cached"]:
        return Check("model", OK, f"{path}, in the hub's cache")
    detail = f"{path} is not in the hub's cache: verl downloads it"
    return Check("model", WARN, detail, f"`hf download {path}` beforehand")


def _checkpoints(asks: dict[str, Any]) -> Check:
    """Against the free disk, as far as the model's size is told by its name in the hardware file."""
    folder = asks["checkpoint_dir"]
    if asks["checkpoints"] == 0:
        return Check("checkpoints", OK, "none are written: trainer.save_freq is not above 0")
    size = re.fullmatch(r"([\d.]+)([mb])", str(asks["model_size"]))
    if size is None:
        return Check("checkpoints", OK, f"of unknown size, in {folder}")
    each = float(size[1]) * UNITS[size[2]] * CHECKPOINT_BYTES
    count = asks["checkpoints"]
    if count is None:
        detail = f"about {gigabytes(each)} each, without a limit to their number"
        return Check("checkpoints", WARN, f"{detail}, in {folder}", "set trainer.max_actor_ckpt_to_keep")
    free = shutil.disk_usage(existing(folder)).free
    detail = f"about {count} x {gigabytes(each)}, {gigabytes(free)} free in {folder}"
    if count * each > free:
        return Check("checkpoints", FAIL, detail, "make room, or set run.dir or trainer.max_actor_ckpt_to_keep")
    return Check("checkpoints", OK, detail)
