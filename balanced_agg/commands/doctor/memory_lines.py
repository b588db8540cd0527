"""The memory that a recipe takes by arithmetic (plugin/checks/memory.py), against the GPUs and the host here."""

from collections.abc import Iterator

from balanced_agg.commands.doctor.check import OK, WARN, Check, gigabytes, warn_with
from balanced_agg.commands.doctor.recipe import Recipe
from balanced_agg.plugin.checks.batches import FSDP
from balanced_agg.plugin.checks.cluster import own_ray
from balanced_agg.plugin.checks.memory import Memory, Stage, gpu_bytes, host_bytes, longest_part, memory_of

# The arithmetic leaves out the allocator's gaps and communication buffers.
FULL = 0.95  # of a GPU
OFFLOAD = f"{FSDP}.param_offload=True {FSDP}.optimizer_offload=True"


def memory_lines(recipe: Recipe) -> Iterator[Check]:
    """Lines for an update, for log-probs, for rollouts and for the host; none on CPUs.

    A cluster is not asked for its memory: what is needed stands alone.
    """
    config = recipe.config
    if config.trainer.device == "cpu":
        return
    needs = memory_of(config)
    if needs is None:
        why = f"{config.actor_rollout_ref.model.path} has no config.json here, or is no dense decoder that FSDP trains"
        yield Check("memory of the recipe", OK, f"not estimated: {why}")
        return
    here = own_ray(config)
    gpu = gpu_bytes() if here else None
    longest = longest_part(config)
    yield of_stage("GPU memory, update", needs.update, gpu, longest)
    yield of_stage("GPU memory, log-probs", needs.log_probs, gpu, longest)
    yield of_rollouts(needs, gpu)
    if needs.host:
        total, free = host_bytes()
        remedy = "end other programs, or run on a machine with more memory" if here and needs.host > free else ""
        found = f"; {gigabytes(free)} free of {gigabytes(total)}" if here else " a node"
        yield warn_with(remedy, "host memory", f"{gigabytes(needs.host)} of training state{found}")


def of_stage(name: str, stage: Stage, gpu: int | None, longest: int) -> Check:
    """
    Args:
        longest: tokens of the longest sequence on a GPU, which a micro-batch must hold.
    """
    parts = ", ".join(f"{what} {gigabytes(size)}" for what, size in stage.parts.items() if size)
    detail = f"{gigabytes(stage.total)}{f' of {gigabytes(gpu)}' if gpu else ''}: {parts} ({stage.tokens} tokens)"
    if not gpu or stage.total <= FULL * gpu:
        return Check(name, OK, detail)
    fitting = stage.tokens_within(FULL * gpu)
    if fitting < longest:
        remedy = f"set hardware to one of more GPUs, or {FSDP}.offload_policy=True"
    else:
        remedy = f"set {stage.key}={fitting // longest if stage.in_rows else fitting}"
    return Check(name, WARN, detail, remedy)


def of_rollouts(needs: Memory, gpu: int | None) -> Check:
    name, vllm = "GPU memory, rollouts", f"weights {gigabytes(needs.weights)}, cache "
    if not gpu:
        return Check(name, OK, f"{needs.utilization:.0%} for vLLM: {vllm}{needs.cache_a_token / 1e3:.0f} kB a token")
    share = needs.utilization * gpu
    tokens = max(0, share - needs.weights) / needs.cache_a_token
    detail = f"{gigabytes(share)} of {gigabytes(gpu)} for vLLM: {vllm}for at most {tokens:.0f} tokens"
    detail += f"; state beside it {gigabytes(needs.at_rest)}" if needs.at_rest else ""
    if share + needs.at_rest <= FULL * gpu:
        return Check(name, OK, detail)
    fitting = int(100 * (FULL - needs.at_rest / gpu)) / 100
    remedy = f"set actor_rollout_ref.rollout.gpu_memory_utilization={fitting}, or {OFFLOAD}"
    return Check(name, WARN, detail, remedy)
