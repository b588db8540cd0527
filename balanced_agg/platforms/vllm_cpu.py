"""vLLM without an accelerator, under ``VERL_PLATFORM=cpu``: weights that can be replaced while it runs."""

import torch

from balanced_agg.platforms import cpu_is_chosen


def keep_plain_weights() -> None:
    """Keep linear weights as they were loaded, so that verl can send new ones after every step.

    vLLM 0.28 on CPU repacks a linear layer's weight at load and drops the original; the next weight sync then fails,
    because the empty parameter has no ``weight_loader``. vLLM calls this in each of its processes (entry-point group
    ``vllm.general_plugins``); anywhere but under ``VERL_PLATFORM=cpu`` it does nothing.
    """
    if not cpu_is_chosen():
        return

    from vllm.model_executor.layers import utils

    def dispatch_to_plain_linear(layer: torch.nn.Module, remove_weight: bool) -> None:
        layer.cpu_linear = torch.nn.functional.linear

    # linear.py and vocab_parallel_embedding.py import this function where they call it, so one assignment reaches both.
    utils.dispatch_cpu_unquantized_gemm = dispatch_to_plain_linear
