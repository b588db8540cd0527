"""vLLM without an accelerator, under ``VERL_PLATFORM=cpu``.

vLLM calls :func:`adapt_vllm` in each of its processes (entry-point group ``vllm.general_plugins``); anywhere but under
``VERL_PLATFORM=cpu`` it does nothing.
"""

import time
from functools import partial

import torch

from balanced_agg.plugin.cpu import cpu_is_chosen

SECONDS_BETWEEN_LOOKS = 0.0005  # for a message; a decoding step of 256 responses takes 20 times as long


def adapt_vllm() -> None:
    if cpu_is_chosen():
        keep_plain_weights()
        wait_without_spinning()


def keep_plain_weights() -> None:
    """Keep linear weights as they were loaded, so that verl can send new ones after every step.

    vLLM 0.28 on CPU repacks a linear layer's weight at load and drops the original; the next weight sync then fails,
    because the empty parameter has no ``weight_loader``.
    """
    from vllm.model_executor.layers import utils

    def dispatch_to_plain_linear(layer: torch.nn.Module, remove_weight: bool) -> None:
        layer.cpu_linear = torch.nn.functional.linear

    # linear.py and vocab_parallel_embedding.py import this function where they call it, so one assignment reaches both.
    utils.dispatch_cpu_unquantized_gemm = dispatch_to_plain_linear


def wait_without_spinning() -> None:
    """Let vLLM's engine and its worker sleep while they wait for each other.

    Each looks for the other's message without a pause until a second after the last one, which takes a core from the
    processes that have something to do.
    """
    from vllm.distributed.device_communicators import shm_broadcast

    shm_broadcast.sched_yield = partial(time.sleep, SECONDS_BETWEEN_LOOKS)
