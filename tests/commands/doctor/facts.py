"""Answers of the probes on a machine where all is well, to be changed one at a time."""

from typing import Any

from balanced_agg.commands.doctor.facts import Facts

GPU = {"name": "NVIDIA H100", "memory": 80 * 10**9}


def asks(**changes: Any) -> dict[str, Any]:
    """A recipe for one node of 8 GPUs."""
    return {
        "mode": "balanced",
        "device": "cuda",
        "nodes": 1,
        "ranks_a_node": 8,
        "cpus_a_rank": 3,
        "ray_cpus": 34,
        "ray_address": None,
        "num_cpus": None,
        "num_gpus": None,
        "object_store": None,
        "run_dir": "/nowhere/outputs/run",
        "checkpoint_dir": "/nowhere/outputs/run/checkpoints",
        "checkpoints": 0,
        "model_size": "2b",
        "model": {"path": "owner/name", "kind": "hub", "cached": True},
        "loggers": ["console", "file", "wandb"],
        "wandb_mode": "offline",
        **changes,
    }


def gpu_facts(recipe: dict[str, Any] | None = None, **verl: Any) -> Facts:
    """8 GPUs, no Ray cluster, no wandb key; `recipe` is what the probe says of one."""
    answer = {
        "entry_points": ["balanced_agg", "balanced_agg_cpu"],
        "plugin_policy": "auto",
        "plugin_loaded": True,
        "plugin_error": None,
        "platform": {"vendor": "nvidia", "device": "cuda", "available": True},
        "accelerators": {"built_for": "13.0", "devices": [GPU] * 8},
        **({"recipe": recipe} if recipe else {}),
        **verl,
    }
    return Facts({}, verl=answer, ray={"address": None}, wandb={"logged_in": False})


def recipe_facts(refusals: tuple = (), data: tuple = (), **changes: Any) -> Facts:
    return gpu_facts(recipe={"asks": asks(**changes), "refusals": list(refusals), "data": list(data)})


def cluster(*nodes: tuple[int, int], free: tuple[int, int] | None = None) -> dict[str, Any]:
    """The answer of the Ray probe for nodes of (CPUs, GPUs)."""
    cpus, gpus = free or (sum(node[0] for node in nodes), sum(node[1] for node in nodes))
    resources = [{"CPU": float(cpu), "GPU": float(gpu)} for cpu, gpu in nodes]
    return {"address": "10.0.0.1:6379", "nodes": resources, "free": {"CPU": float(cpus), "GPU": float(gpus)}}
