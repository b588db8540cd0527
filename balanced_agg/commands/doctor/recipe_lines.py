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
    """Nothing where verl could not be asked: that is a line of its own."""
    recipe = facts.verl.get("recipe")
    if recipe is None:
        return
    if "error" in recipe:
        yield Check(
            "recipe", FAIL, f"{name}: {recipe['error']}", f"see `balanced-agg train {name} --cfg job --resolve`"
        )
        return
    asks = recipe["asks"]
    ranks = f"{asks['nodes']} x {asks['ranks_a_node']} {'ranks on CPU' if asks['device'] == 'cpu' else 'GPUs'}"
    yield Check("recipe", OK, f"{name}: loss_agg_mode={asks['mode']}, {ranks}")
    yield from _placement(facts, asks)
    yield _model(asks["model"])
    yield from _data(recipe["data"], asks["prompts_a_step"])
    yield _checkpoints(asks)
    for refusal in recipe["refusals"]:
        yield Check(f"refused: {refusal['check']}", FAIL, *_split(refusal["error"]))


def _split(refusal: str) -> tuple[str, str]:
    """Our refusals end in what to set, after the last semicolon."""
    detail, _, remedy = refusal.rpartition("; ")
    return (detail, remedy) if detail else (refusal, "")


def _placement(facts: Facts, asks: dict[str, Any]) -> Iterator[Check]:
    """verl puts all ranks of a node into one placement group: each node must hold its own, CPUs and GPUs together."""
    if "error" in facts.ray:
        return  # a line of its own
    cpus_a_node = asks["ranks_a_node"] * asks["cpus_a_rank"]
    asked = (
        f"asked: {asks['nodes']} x ({asks['ranks_a_node']} GPUs, {cpus_a_node} CPUs), {asks['ray_cpus']} CPUs in all"
    )
    if facts.ray["address"] is None:
        devices = facts.verl["accelerators"].get("devices", [])
        yield _on_this_machine(asks, asks["num_gpus"] or len(devices), asked)
    else:
        yield from _joinable(asks)
        yield _in_cluster(asks, facts.ray["nodes"], facts.ray["free"], cpus_a_node, asked)


def _on_this_machine(asks: dict[str, Any], gpus: int, asked: str) -> Check:
    """Whether the cluster that verl starts here is enough; its CPUs are check_ray_cpus' to judge."""
    if asks["nodes"] > 1:
        remedy = "`ray start` on every node and export RAY_ADDRESS, or set hardware to one of a single node"
        return Check("placement", FAIL, f"{asked}; several nodes need a Ray cluster, and none is running", remedy)
    if gpus < asks["ranks_a_node"]:
        remedy = f"set trainer.n_gpus_per_node={gpus}" if gpus else "set hardware=cpu"
        return Check("placement", FAIL, f"{asked}; here: {gpus} GPUs", remedy)
    return Check("placement", OK, f"{asked}; here: {gpus} GPUs")


def _joinable(asks: dict[str, Any]) -> Iterator[Check]:
    """Ray refuses to join a cluster with a size of its own in hand."""
    sizes = {"num_cpus": "num_cpus", "num_gpus": "num_gpus", "object_store": "object_store_memory"}
    given = [f"ray_kwargs.ray_init.{key}" for name, key in sizes.items() if asks[name] is not None]
    if given:
        remedy = f"set {' '.join(f'{key}=null' for key in given)}, or end that cluster"
        yield Check("ray_init", FAIL, f"{', '.join(given)}: Ray takes no size for a cluster that is running", remedy)


def _in_cluster(asks: dict[str, Any], nodes: list[dict], free: dict, cpus_a_node: int, asked: str) -> Check:
    gpus = asks["ranks_a_node"]
    fitting = sum(node.get("GPU", 0) >= gpus and node.get("CPU", 0) >= cpus_a_node for node in nodes)
    cpus = sum(node.get("CPU", 0) for node in nodes)
    detail = f"{asked}; the cluster has {fitting} such nodes, {cpus:g} CPUs in all"
    if fitting < asks["nodes"] or cpus < asks["ray_cpus"]:
        remedy = "add nodes or CPUs (`ray start --num-cpus`, a logical count), or set hardware to a smaller one"
        return Check("placement", FAIL, f"{detail}: Ray would wait for ever", remedy)
    if free.get("GPU", 0) < asks["nodes"] * gpus or free.get("CPU", 0) < asks["ray_cpus"]:
        detail += f", of which {free.get('GPU', 0):g} GPUs and {free.get('CPU', 0):g} CPUs are free"
        return Check("placement", WARN, detail, "the run waits until another one ends")
    return Check("placement", OK, detail)


def _model(model: dict[str, Any]) -> Check:
    path = model["path"]
    if model["kind"] == "remote":
        return Check("model", OK, f"{path}: verl fetches it")
    if model["kind"] == "folder":
        if model["present"]:
            return Check("model", OK, path)
        return Check(
            "model", FAIL, f"{path} has no config.json", "prepare the model, or set actor_rollout_ref.model.path"
        )
    if model["present"]:
        return Check("model", OK, f"{path}, in the hub's cache")
    if model["offline"]:
        remedy = f"`hf download {path}` first, or export HF_HUB_OFFLINE=0"
        return Check("model", FAIL, f"{path} is not in the hub's cache, and HF_HUB_OFFLINE is set", remedy)
    return Check(
        "model", WARN, f"{path} is not in the hub's cache: verl downloads it", f"`hf download {path}` beforehand"
    )


def _data(files: list[dict[str, Any]], prompts_a_step: int) -> Iterator[Check]:
    """Files that are there; those that are not are refused by check_data_files."""
    for data in files:
        name, rows = data["key"].removeprefix("data."), data["rows"]
        if rows == 0:
            yield Check(name, FAIL, f"{data['file']} has no rows", "prepare it again")
        else:
            yield Check(name, OK, data["file"] if rows is None else f"{data['file']}: {rows} rows")
    rows = [data["rows"] for data in files if data["key"] == "data.train_files"]
    if rows and None not in rows and 0 < sum(rows) < prompts_a_step:
        detail = f"{sum(rows)} rows are fewer than data.train_batch_size={prompts_a_step}: not one step"
        yield Check("train_files", FAIL, detail, f"set data.train_batch_size to {sum(rows)} or less")


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
