"""Memory by arithmetic: what training and rollouts of a dense decoder take of a GPU and of its host.

P parameters, of which E are in embeddings and head, are spread over S GPUs (``fsdp_size``); L layers have a hidden size
h and an MLP of f, the vocabulary is V, and a micro-batch has T tokens a GPU. w, a and v are the bytes of a weight in
the optimizer (fp32: 4), in computation (bf16: 2) and in vLLM. In bytes a GPU:

    state       4 w P / S     weights, gradients, Adam's two moments; between updates, without gradients, 3 w P / S
    embeddings  2 a E         they and the head are gathered whole, with their gradients; log-probs have none: a E
    gradients   4 P           of use_no_sync_for_gradient_accumulation, which keeps them whole between micro-batches
    logits      2 a V T       and what is computed of them; entropy that is neither compiled nor chunked adds 8 V T
    layers      a L h T + 2 a (8 h + 3 f) T     checkpoints, and one layer's activations and gradients; log-probs have
                              one layer's activations alone
    rollouts    gpu_memory_utilization of the GPU: v P / TP weights, and the cache, a token 2 v L heads width / TP

With offloading the state is on the GPU for updates alone, under ``offload_policy`` never, and the host has it. Biases
and norms, a thousandth, are left out. None of this has been measured on a GPU.
"""

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from balanced_agg.plugin.checks.batches import FSDP, SEPARATE, shards_of_a_copy
from balanced_agg.plugin.checks.cluster import own_ray
from balanced_agg.plugin.checks.model import config_folder, has_tied_head, model_config
from balanced_agg.plugin.refusal import Refusal

# Attention of queries, keys, values and output, a gated MLP, two norms: for these alone the numbers are right.
DENSE = ("llama", "qwen2", "qwen3")
SIZES = ("num_hidden_layers", "hidden_size", "intermediate_size", "vocab_size", "num_attention_heads")
# Of vLLM's own options in engine_kwargs.vllm: with these it needs other memory than what is computed here.
OTHER_NEEDS = {
    *("cpu_offload_gb", "gpu_memory_utilization", "kv_cache_dtype", "kv_cache_memory_bytes", "max_model_len"),
    *("pipeline_parallel_size", "quantization", "tensor_parallel_size"),
}
BYTES = {"fp32": 4, "float32": 4, "bf16": 2, "bfloat16": 2, "fp16": 2, "float16": 2, "half": 2, "auto": 2}
# vLLM asleep, and CUDA's contexts, on a GPU that an actor shares with it.
BESIDE = 4e9
SECONDS = 20


@dataclass(frozen=True)
class Shape:
    """Of a dense decoder, as its config.json has it."""

    layers: int
    hidden: int
    mlp: int
    vocabulary: int
    attention: int  # query heads x their width
    cached: int  # heads of keys and values x their width
    tied: bool

    @property
    def embeddings(self) -> int:
        return self.vocabulary * self.hidden * (1 if self.tied else 2)

    @property
    def parameters(self) -> int:
        a_layer = 2 * self.hidden * (self.attention + self.cached) + 3 * self.hidden * self.mlp
        return self.embeddings + self.layers * a_layer


def shape_of(model: dict[str, Any]) -> Shape | None:
    """The shape in a model's config.json; None for other than dense decoders."""
    if model.get("model_type") not in DENSE or not all(isinstance(model.get(key), int) for key in SIZES):
        return None
    heads = model["num_attention_heads"]
    width = model.get("head_dim") or model["hidden_size"] // heads
    return Shape(
        layers=model["num_hidden_layers"],
        hidden=model["hidden_size"],
        mlp=model["intermediate_size"],
        vocabulary=model["vocab_size"],
        attention=heads * width,
        cached=(model.get("num_key_value_heads") or heads) * width,
        tied=has_tied_head(model),
    )


@dataclass(frozen=True)
class Stage:
    """What a stage of a step takes of each GPU, in bytes.

    Attributes:
        fixed: by what takes it, however long the sequences are.
        a_token: by what takes it, for each of `tokens`.
        tokens: the most of a micro-batch, T.
        key: sets T, as a number of rows if ``in_rows``.
    """

    fixed: dict[str, float]
    a_token: dict[str, float]
    tokens: int
    key: str
    in_rows: bool

    @property
    def parts(self) -> dict[str, float]:
        return self.fixed | {name: each * self.tokens for name, each in self.a_token.items()}

    @property
    def total(self) -> float:
        return sum(self.parts.values())

    def tokens_within(self, gpu: float) -> int:
        """The largest T with which the stage fits a GPU of this size; 0 or less if none does."""
        return int((gpu - sum(self.fixed.values())) / sum(self.a_token.values()))


@dataclass(frozen=True)
class Memory:
    """Bytes a GPU, and of the host of a node.

    Attributes:
        weights, cache_a_token: vLLM's.
        longest: tokens of a sequence, for which vLLM must have cache.
        utilization: the share of a GPU that is vLLM's.
        at_rest: state that stays on the GPU during rollouts.
        host: state in the host's memory.
    """

    update: Stage
    log_probs: Stage
    weights: float
    cache_a_token: float
    longest: int
    utilization: float
    at_rest: float
    host: float


def memory_of(config: DictConfig) -> Memory | None:
    """The arithmetic above; None on CPUs, for engines other than FSDP, and for a model not here or of another kind."""
    actor, rollout, model = (config.actor_rollout_ref[name] for name in ("actor", "rollout", "model"))
    folder = config_folder(config)
    if config.trainer.device == "cpu" or not actor.strategy.startswith("fsdp") or folder is None:
        return None
    shape = shape_of(found := model_config(folder))
    if shape is None:
        return None
    fsdp, replica = actor.fsdp_config, rollout.tensor_model_parallel_size
    in_optimizer = BYTES.get(str(fsdp.get("model_dtype")), 4)
    computed = BYTES.get(str(OmegaConf.select(fsdp, "mixed_precision.param_dtype", default="bf16")), 2)
    in_vllm = BYTES.get(str(rollout.dtype), 2)
    each = in_optimizer * shape.parameters / shards_of_a_copy(config)
    # Weights, gradients and two moments; an adapter has small ones.
    in_update, between = (1, 1) if model.get("lora_rank") else (4, 3)
    never, moved = bool(fsdp.offload_policy), bool(fsdp.param_offload and fsdp.optimizer_offload)
    alone = OmegaConf.select(config, "trainer.v1.trainer_mode") == SEPARATE  # without a rollout on its GPU
    beside = {} if alone else {"vLLM asleep": BESIDE}
    late = {"unsharded gradients": 4 * shape.parameters} if fsdp.get("use_no_sync_for_gradient_accumulation") else {}
    logits = 0 if model.get("use_fused_kernels") else 2 * computed * shape.vocabulary
    entropy = (
        0
        if fsdp.get("use_torch_compile", True) or fsdp.get("entropy_from_logits_with_chunking")
        else 8 * shape.vocabulary
    )
    checkpoints = computed * shape.layers * shape.hidden
    a_layer = computed * (8 * shape.hidden + 3 * shape.mlp)
    return Memory(
        update=Stage(
            {"state": 0 if never else in_update * each, "embeddings": 2 * computed * shape.embeddings} | late | beside,
            {"logits": logits, "layers": checkpoints + 2 * a_layer},
            *tokens(config, actor, "ppo"),
        ),
        log_probs=Stage(
            {"state": 0 if never else each if moved else between * each, "embeddings": computed * shape.embeddings}
            | beside,
            {"logits": logits and logits + entropy, "layers": a_layer},
            *tokens(config, rollout, "log_prob"),
        ),
        weights=in_vllm * shape.parameters / replica,
        cache_a_token=2 * in_vllm * shape.layers * shape.cached / replica,
        longest=rollout.max_model_len
        or OmegaConf.select(model, "override_config.max_position_embeddings")
        or found.get("max_position_embeddings", 0),
        utilization=rollout.gpu_memory_utilization,
        at_rest=0 if never or moved or alone else between * each,
        host=config.trainer.n_gpus_per_node * each * (in_update if never else between if moved else 0),
    )


def tokens(config: DictConfig, section: DictConfig, prefix: str) -> tuple[int, str, bool]:
    """(the most tokens of a micro-batch a GPU, the key that sets them, whether it does as a number of rows)."""
    place = f"actor_rollout_ref.{'actor' if prefix == 'ppo' else 'rollout'}"
    budget, rows = (f"{prefix}_{name}_per_gpu" for name in ("max_token_len", "micro_batch_size"))
    if section.get("use_dynamic_bsz", section.get("log_prob_use_dynamic_bsz")):
        return section[budget], f"{place}.{budget}", False
    return (section[rows] or 1) * longest_part(config), f"{place}.{rows}", True


def longest_part(config: DictConfig) -> int:
    """Tokens of the longest sequence on one GPU, of those that share it."""
    sharing = config.actor_rollout_ref.actor.get("ulysses_sequence_parallel_size") or 1
    return -(-(config.data.max_prompt_length + config.data.max_response_length) // sharing)


def gpu_bytes() -> int | None:
    """Of the largest GPU of this machine, as the driver tells; None where it does not."""
    if not (tool := shutil.which("nvidia-smi")):
        return None
    command = [tool, "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return max((int(line) * 2**20 for line in done.stdout.split() if line.isdecimal()), default=None)


def host_bytes() -> tuple[int, int]:
    """(total, available) bytes for this process: of the machine, or of its cgroup where that has less."""
    lines = dict(re.findall(r"(\w+):\s+(\d+) kB", Path("/proc/meminfo").read_text()))
    total, available = (int(lines[name]) * 1024 for name in ("MemTotal", "MemAvailable"))
    limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    if limit.exists() and (bound := limit.read_text().strip()).isdecimal():
        total, available = min(total, int(bound)), min(available, int(bound) - int(used.read_text()))
    return total, available


def check_memory(config: DictConfig) -> None:
    """Check that what a run takes at the least, with the shortest sequences, fits this machine: verl would be out of
    memory after minutes. Whether the rest does, `balanced-agg doctor` estimates.

    A cluster that runs already is not looked at.
    """
    needs = memory_of(config) if own_ray(config) else None
    if needs is None:
        return
    if needs.host > (total := host_bytes()[0]):
        name = "offload_policy" if config.actor_rollout_ref.actor.fsdp_config.offload_policy else "param_offload"
        raise Refusal(
            f"{FSDP}.{name}",
            f"=True keeps {needs.host / 1e9:.0f} GB of state in the host's memory, which is {total / 1e9:.0f} GB",
            "set hardware to one of more GPUs, which share the state, or run on a machine with more memory",
        )
    if (gpu := gpu_bytes()) is None:
        return
    if (state := needs.update.fixed["state"]) > gpu:
        raise Refusal(
            "trainer.n_gpus_per_node",
            f"={config.trainer.n_gpus_per_node}: an update has {state / 1e9:.0f} GB of state on each GPU, which is of "
            f"{gpu / 1e9:.0f} GB",
            f"set hardware to one of more GPUs, or {FSDP}.offload_policy=True, by which the host has the state",
        )
    rollout = config.actor_rollout_ref.rollout
    options = OmegaConf.select(rollout, "engine_kwargs.vllm") or {}
    if rollout.name != "vllm" or rollout.get("quantization") or OTHER_NEEDS & {*options}:
        return
    if (least := needs.weights + needs.longest * needs.cache_a_token) > needs.utilization * gpu:
        raise Refusal(
            "actor_rollout_ref.rollout.gpu_memory_utilization",
            f"={needs.utilization} of a GPU of {gpu / 1e9:.0f} GB is less than the {least / 1e9:.0f} GB that weights "
            f"and the cache of one sequence of {needs.longest} tokens take",
            f"set {f'it to more than {least / gpu:.2f}, or ' if least < gpu else ''}"
            "actor_rollout_ref.rollout.tensor_model_parallel_size to more GPUs",
        )
