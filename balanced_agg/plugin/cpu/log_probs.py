"""Log-probabilities of tokens, where no fused kernel computes them."""

import torch
from torch import Tensor

LOGITS_AT_ONCE = 2**22  # of which a copy is made; 16 MiB in fp32


def log_probs_of(logits: Tensor, labels: Tensor) -> Tensor:
    """Log-probabilities of ``labels`` (...) under ``logits`` (..., vocabulary), both on any device; shape (...).

    As many tokens at a time as LOGITS_AT_ONCE allows, and one at least. No tokens have none.
    """
    tokens = max(1, LOGITS_AT_ONCE // logits.shape[-1])
    normalizers = [chunk.logsumexp(-1) for chunk in logits.reshape(-1, logits.shape[-1]).split(tokens)]
    chosen = logits.gather(-1, labels.unsqueeze(-1)).squeeze(-1)
    return chosen - torch.cat(normalizers).view_as(chosen)
