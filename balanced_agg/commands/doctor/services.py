"""Ray, the sandbox for programs, and wandb."""

import os
from collections.abc import Iterator

from balanced_agg.commands.doctor.check import FAIL, OK, WARN, Check
from balanced_agg.commands.doctor.facts import Facts

LOG_IN = "`wandb login`, or export WANDB_API_KEY; or WANDB_MODE=offline and `wandb sync` later"


def check_services(facts: Facts) -> Iterator[Check]:
    if not facts.refused("cluster"):
        yield check_ray(facts)
    yield check_sandbox()
    if not facts.refused("loggers"):
        yield check_wandb(facts)


def check_ray(facts: Facts) -> Check:
    """Which cluster a run would have; whether it is enough for a recipe is recipe_lines' to say."""
    answer, recipe = facts.ray, facts.recipe
    if "error" in answer:
        named = facts.environment.get("RAY_ADDRESS")
        what = f"RAY_ADDRESS={named}" if named else "the cluster that `ray start` made here"
        remedy = (
            "unset RAY_ADDRESS, or start that cluster" if named else "`ray stop`, which ends it, then start it again"
        )
        return Check(
            "Ray", FAIL, f"cannot join {what}: {answer['error']}", f"{remedy}; RAY_AUTH_MODE and token as it has"
        )
    if answer["address"] is None:
        cpus = recipe.get("num_cpus") or os.cpu_count()
        gpus = recipe.get("num_gpus") or len(facts.verl.get("accelerators", {}).get("devices", []))
        return Check(
            "Ray", OK, f"no cluster is running; verl starts one here, of {cpus} CPUs and {gpus} GPUs (logical)"
        )
    nodes = answer["nodes"]
    resources = ", ".join(
        f"{sum(node.get(kind, 0) for node in nodes):g} {kind}s ({answer['free'].get(kind, 0):g} free)"
        for kind in ("CPU", "GPU")
    )
    return Check("Ray", OK, f"cluster at {answer['address']}: {len(nodes)} nodes, {resources}")


def check_sandbox() -> Check:
    """Only some recipes run programs; one that does is refused by its launch check."""
    from balanced_agg.rewards import sandbox

    try:
        sandbox.check_sandbox()
    except ValueError as error:
        why = str(error).partition(". ")[0]
        remedy = "programs are graded for livecodebench only; reward.sandbox_fusion.url names a service instead"
        return Check("sandbox", WARN, why, remedy)
    return Check("sandbox", OK, "bubblewrap isolates programs here")


def check_wandb(facts: Facts) -> Check:
    """The mode is the recipe's, which WANDB_MODE sets and is offline by default. No key is shown.

    A recipe that needs a key here is refused by its launch check; on a cluster, the nodes may have one of their own.
    """
    recipe = facts.recipe
    if recipe and "wandb" not in recipe["loggers"]:
        return Check("wandb", OK, "not among trainer.logger")
    mode = recipe.get("wandb_mode") or facts.environment.get("WANDB_MODE") or ("online" if recipe else "offline")
    if "error" in facts.wandb:
        detail = f"{mode}; no login: {facts.wandb['error']}"
        return Check("wandb", FAIL if mode == "online" and not recipe else WARN, detail, LOG_IN)
    detail = f"{mode}, {'logged in' if facts.wandb['logged_in'] else 'not logged in'}"
    if mode == "online" and not facts.wandb["logged_in"]:
        return Check("wandb", WARN if recipe else FAIL, detail, LOG_IN)
    if mode == "offline":
        detail += ": runs stay on this disk until `wandb sync`"
    return Check("wandb", OK, detail)
