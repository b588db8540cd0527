"""verl's own FSDP2 engine in one process, with real small models: its gradients beside the float64 reference.

    VERL_PLATFORM=cpu .venv/bin/python -m tests.plugin.loss.engine_gradient    # without it: on the GPU

Prints a line of JSON for each model, layout of a micro-batch, precision and mode: the error, and what it would be if
each micro-batch counted its own responses, as a fault that must be seen.
"""

import json
import logging
import tempfile
from collections.abc import Iterator
from functools import partial
from itertools import product
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel, Qwen2Config, Qwen3Config
from verl.trainer.config import CheckpointConfig
from verl.utils import tensordict_utils as tu
from verl.utils.device import get_device_name
from verl.workers.config import FSDPEngineConfig, FSDPOptimizerConfig, HFModelConfig
from verl.workers.engine import EngineRegistry
from verl.workers.utils.losses import ppo_loss

from tests.minibatch import (
    OUR_MODES,
    RESPONSE_BUDGET,
    VOCABULARY,
    MiniBatch,
    make_actor_config,
    make_minibatch,
    reference_loss,
)

SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}
MODELS = {
    "qwen3, tied": Qwen3Config(**SHAPE, head_dim=16, tie_word_embeddings=True),
    "qwen2, untied": Qwen2Config(**SHAPE, tie_word_embeddings=False),
}
LAYOUTS = {"padded": False, "packed": True}
MICRO_BATCH_SIZE = 4


def engine_of(
    folder: Path, *, packed: bool, precision: str = "fp32", attention: str = "sdpa", fused_kernels: bool = False, **fsdp
):
    """verl's engine with the model in ``folder``. torch's attention takes packed sequences, too.

    Args:
        fsdp: keys of verl's ``fsdp_config``.
    """
    precisions = {"param_dtype": precision, "reduce_dtype": "fp32", "buffer_dtype": "fp32"}
    engine = EngineRegistry.new(
        model_type="language_model",
        backend="fsdp2",
        model_config=HFModelConfig(
            path=str(folder),
            load_tokenizer=False,
            use_remove_padding=packed,
            override_config={"attn_implementation": attention},
            use_fused_kernels=fused_kernels,
            fused_kernel_options={"impl_backend": "torch"},
        ),
        engine_config=FSDPEngineConfig(
            strategy="fsdp2",
            mixed_precision=precisions,
            use_torch_compile=False,
            use_fused_kernels=fused_kernels,
            **fsdp,
        ),
        optimizer_config=FSDPOptimizerConfig(lr=1e-3),
        checkpoint_config=CheckpointConfig(),
    )
    engine.initialize()
    return engine


def backward(engine, batch: MiniBatch, mode: str, responses: int, **split: int | bool) -> None:
    """Accumulate the gradient of a mini-batch of which this rank has ``batch``; within ``engine.train_mode()``.

    Args:
        responses: of the whole mini-batch, over all ranks.
        split: verl's keys of how rows become micro-batches.
    """
    data = batch.data.clone()
    lengths = data["input_ids"].offsets().diff().tolist()
    data["position_ids"] = torch.nested.as_nested_tensor([*map(torch.arange, lengths)], layout=torch.jagged)
    tu.assign_non_tensor(
        data,
        temperature=1.0,
        use_remove_padding=engine.use_remove_padding,
        use_fused_kernels=engine.engine_config.use_fused_kernels,
        global_batch_size=responses,
        **split,
    )
    engine.optimizer_zero_grad()
    config = make_actor_config(mode, loss_scale_factor=RESPONSE_BUDGET)
    engine.forward_backward_batch(data, partial(ppo_loss, config))


def engine_gradient(engine, *arguments, **split: int | bool) -> dict[str, Tensor]:
    """By parameter, on the CPU, as an optimizer step would see it; the arguments are those of :func:`backward`."""
    with engine.train_mode():
        backward(engine, *arguments, **split)
        gradients = {name: weight.grad.full_tensor() for name, weight in engine.module.named_parameters()}
    return {name: gradient.cpu() for name, gradient in gradients.items()}


def reference_gradient(model: PreTrainedModel, batch: MiniBatch, mode: str) -> dict[str, Tensor]:
    """The same in float64, one sequence at a time."""

    def log_probs_of(ids: Tensor, length: int) -> Tensor:
        log_probs = torch.log_softmax(model(ids[None]).logits[0, -length - 1 : -1], dim=-1)
        return log_probs.gather(-1, ids[-length:, None]).squeeze(-1)

    model.zero_grad()
    reference_loss(batch, mode, log_probs_of).backward()
    return {name: weight.grad.clone() for name, weight in model.named_parameters()}


def relative_error(actual: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    """Over all parameters together."""
    difference = sum(float((actual[name].double() - expected[name]).square().sum()) for name in expected)
    return (difference / sum(float(gradient.square().sum()) for gradient in expected.values())) ** 0.5


def saved_model(name: str, folder: Path) -> PreTrainedModel:
    """A random one of these shapes in float64, whose float32 is saved in ``folder``."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(MODELS[name], attn_implementation="eager")
    model.save_pretrained(folder)
    return model.double()


def compare(folder: Path, precisions: list[str]) -> Iterator[dict[str, str | float]]:
    batch = make_minibatch(seed=12, groups=4, group_size=6)
    for name in MODELS:
        model = saved_model(name, folder / name)
        for (layout, packed), precision in product(LAYOUTS.items(), precisions):
            engine = engine_of(folder / name, packed=packed, precision=precision)
            split = {"use_dynamic_bsz": False, "micro_batch_size_per_gpu": MICRO_BATCH_SIZE}
            for mode in OUR_MODES:
                expected = reference_gradient(model, batch, mode)
                error, with_local_counts = (
                    relative_error(engine_gradient(engine, given, mode, len(batch), **split), expected)
                    for given in (
                        batch.with_divisors(mode),
                        batch.with_divisors_of_each_micro_batch(mode, MICRO_BATCH_SIZE),
                    )
                )
                case = {"model": name, "layout": layout, "precision": precision, "mode": mode}
                yield case | {"error": error, "error_with_local_counts": with_local_counts}


def main() -> None:
    logging.disable(logging.WARNING)
    on_gpu = get_device_name() == "cuda"
    with tempfile.TemporaryDirectory() as folder:
        dist.init_process_group(
            "nccl" if on_gpu else "gloo", init_method=f"file://{folder}/rendezvous", rank=0, world_size=1
        )
        for row in compare(Path(folder), ["fp32", "bf16"] if on_gpu else ["fp32"]):
            print(json.dumps(row), flush=True)
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
