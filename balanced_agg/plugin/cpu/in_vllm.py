"""vLLM without an accelerator, under ``VERL_PLATFORM=cpu``.

vLLM calls :func:`adapt_vllm` in each of its processes (entry-point group ``vllm.general_plugins``); anywhere but under
``VERL_PLATFORM=cpu`` it does nothing.
"""

from collections.abc import Callable

import torch

from balanced_agg.plugin.cpu import cpu_is_chosen
from balanced_agg.plugin.wrapping import Wrapper, put_in_place


def adapt_vllm() -> None:
    if cpu_is_chosen():
        put_in_place(WRAPPERS, asked_for="VERL_PLATFORM=cpu")


def _keep_plain_weights(wrapped: Callable, instance: None, args: tuple, kwargs: dict) -> None:
    """vLLM on CPU repacks a linear layer's weight at load and drops the original: keep it, for verl to send new ones.

    Else the weight sync after the first step fails: the empty parameter has no ``weight_loader``. vLLM imports the
    wrapped function where it calls it, so one wrapper reaches all its callers.
    """
    layer = kwargs["layer"] if "layer" in kwargs else args[0]
    layer.cpu_linear = torch.nn.functional.linear


WRAPPERS = (
    Wrapper(
        "vllm.model_executor.layers.utils",
        "dispatch_cpu_unquantized_gemm",
        ("layer", "remove_weight"),
        _keep_plain_weights,
    ),
)
