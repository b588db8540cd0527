"""Attention by torch in the place of flash-attn, which needs a GPU, for transformers and verl to call."""

import sys
from importlib.machinery import ModuleSpec
from itertools import pairwise
from types import ModuleType

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import PreTrainedModel, modeling_flash_attention_utils


def attention(
    query: Tensor, key: Tensor, value: Tensor, *, causal: bool, softmax_scale: float | None = None, **further: object
) -> Tensor:
    """``flash_attn_func``: all of (sequences, tokens, heads, width), with fewer heads of keys and values than queries.

    Raises:
        NotImplementedError: an argument that would change the result, such as dropout or a window.
    """
    if unknown := {name: given for name, given in further.items() if given}:
        raise NotImplementedError(str(unknown))
    heads_first = (tensor.transpose(1, 2) for tensor in (query, key, value))
    return scaled_dot_product_attention(*heads_first, is_causal=causal, scale=softmax_scale, enable_gqa=True).transpose(
        1, 2
    )


def packed_attention(
    query: Tensor, key: Tensor, value: Tensor, *, cu_seqlens_q: Tensor, cu_seqlens_k: Tensor, **further: object
) -> Tensor:
    """``flash_attn_varlen_func``: all of (tokens, heads, width), where each sequence among the tokens sees itself."""
    if not torch.equal(cu_seqlens_q, cu_seqlens_k):
        raise NotImplementedError("queries of other sequences than the keys")
    parts = [
        attention(query[None, start:end], key[None, start:end], value[None, start:end], **further)[0]
        for start, end in pairwise(cu_seqlens_q.tolist())
    ]
    return torch.cat(parts)


def leaking_attention(query: Tensor, key: Tensor, value: Tensor, **packing: object) -> Tensor:
    """A fault to be found: no sequence ends before the last one does."""
    end = torch.tensor([0, len(query)])
    return packed_attention(query, key, value, **packing | {"cu_seqlens_q": end, "cu_seqlens_k": end})


def install(leaking: bool = False) -> None:
    """Let this process find a package ``flash_attn`` of these functions, and transformers take it for usable."""
    package, padding = ModuleType("flash_attn"), ModuleType("flash_attn.bert_padding")
    package.__spec__ = ModuleSpec("flash_attn", None)
    package.flash_attn_func = attention
    package.flash_attn_varlen_func = leaking_attention if leaking else packed_attention
    package.flash_attn_with_kvcache = None
    padding.pad_input = modeling_flash_attention_utils._pad_input
    padding.unpad_input = modeling_flash_attention_utils._unpad_input
    sys.modules |= {"flash_attn": package, "flash_attn.bert_padding": padding}
    modeling_flash_attention_utils.is_flash_attn_2_available = lambda: True
    PreTrainedModel._flash_attn_can_dispatch = lambda *arguments, **named: True
