"""Loss aggregation for group-sampled policy gradients: one weighted sum, four length divisors.

Response i of a mini-batch of N responses has token losses l_it. Every aggregation here is

    loss = 1/N * sum_i  1/D_i * sum_t l_it

and differs only in the length divisor D_i:

    mode                  D_i                                                        known as
    seq-mean-token-mean   length of response i                                       sequence aggregation, GRPO
    group-token-mean      mean length of the responses in i's group                  token aggregation per group, DAPO
    token-mean            mean length of all responses given                         token aggregation in verl and TRL
    balanced              mean length of the responses in i's group that share       Balanced Aggregation
                          the sign of i's advantage

``balanced`` is Balanced Aggregation (arXiv 2605.04077): in a group of G responses, of which n_s have sign s and
T_s tokens together, the token mean over sign s weighs n_s / G, and (n_s / G) / T_s = 1 / (G * mean length of s).

The statistics are those of the whole group. They are computed once, where whole groups are at hand, and travel as
one number per response; a micro-batch or a rank never sees enough of a group to compute them itself.
"""

from collections import defaultdict
from collections.abc import Hashable, Sequence
from itertools import count

import torch
from torch import Tensor

MODES = ("balanced", "group-token-mean", "seq-mean-token-mean", "token-mean")


def length_divisors(mode: str, group_ids: Sequence[Hashable], advantages: Tensor, response_mask: Tensor) -> Tensor:
    """The length divisor D_i of every response (table above).

    Args:
        mode: one of ``MODES``.
        group_ids: (rows,) one hashable per response, equal within a group; groups may differ in size and be scattered.
        advantages: (rows, tokens) only the sign at unmasked tokens counts; anything, NaN included, may stand elsewhere.
        response_mask: (rows, tokens) 1 where a token counts, else 0, after rejection and overlong masking.

    Returns:
        (rows,) float32, in tokens, on the mask's device. Responses without tokens are in no mean and get 1, so that
        they stay harmless in a division; responses of advantage 0 are a sign of their own; a group whose responses
        all have one sign needs no special case, its divisor is that of ``group-token-mean``.

    Raises:
        ValueError: unknown mode, shapes that disagree, or, under ``balanced``, a response whose unmasked advantages
            have both signs or are NaN: it belongs to neither side, so Balanced Aggregation is not defined for it.
    """
    if mode not in MODES:
        raise ValueError(f"unknown aggregation mode {mode!r}; choose one of {', '.join(MODES)}")
    if advantages.shape != response_mask.shape or response_mask.dim() != 2:
        raise ValueError(
            "advantages and response_mask must both be (rows, tokens), "
            f"got {tuple(advantages.shape)} and {tuple(response_mask.shape)}"
        )
    rows = response_mask.shape[0]
    if len(group_ids) != rows:
        raise ValueError(f"{len(group_ids)} group_ids for {rows} rows; give one per row")

    lengths = response_lengths(response_mask)
    groups = group_numbers(group_ids, lengths.device)
    signs = advantage_signs(advantages, response_mask) if mode == "balanced" else torch.zeros_like(groups)
    return mean_lengths(mode, groups, signs, lengths).float()


def mean_lengths(mode: str, groups: Tensor, signs: Tensor, lengths: Tensor) -> Tensor:
    """:func:`length_divisors` from what is known of each response: (rows,) group number, sign and length.

    Returns (rows,) float64, in tokens. `signs`, each -1, 0 or 1, only matter under ``balanced``.
    """
    if mode == "token-mean":
        subset = torch.zeros_like(groups)
    elif mode == "seq-mean-token-mean":
        subset = torch.arange(len(groups), device=groups.device)
    elif mode == "group-token-mean":
        subset = groups
    else:
        subset = 3 * groups + 1 + signs
    # float64 counts are exact up to 2**53 tokens, whatever order the rows are added in.
    tokens = torch.bincount(subset, weights=lengths.double())
    responses = torch.bincount(subset, weights=(lengths > 0).double())
    return torch.where(lengths > 0, (tokens / responses)[subset], 1.0)


def response_lengths(response_mask: Tensor) -> Tensor:
    """(rows,) unmasked tokens of each response, from a (rows, tokens) mask of zeros and ones of any dtype."""
    # Summing bool directly is ten times slower on CPU than converting block by block.
    return torch.cat([block.long().sum(dim=-1) for block in row_blocks(response_mask)])


def advantage_signs(advantages: Tensor, response_mask: Tensor) -> Tensor:
    """(rows,) -1, 0 or 1: the sign of a response's nonzero unmasked advantages; 0 for a response that has none.

    Raises:
        ValueError: a response with unmasked advantages of both signs, or NaN.
    """
    if advantages.shape[1] == 0:
        return torch.zeros(len(advantages), dtype=torch.long, device=advantages.device)
    ranges = []
    for values, mask in zip(row_blocks(advantages), row_blocks(response_mask), strict=True):
        unmasked = torch.where(mask.bool(), values, 0)
        ranges.append((unmasked.amin(dim=-1), unmasked.amax(dim=-1)))
    low, high = (torch.cat(bound) for bound in zip(*ranges, strict=True))
    if bool(torch.isnan(high).any()):
        raise ValueError("advantages are NaN at unmasked tokens; look for NaN in the rewards")
    both = ((low < 0) & (high > 0)).nonzero()
    if len(both):
        raise ValueError(
            f"{len(both)} responses (first: row {both[0].item()}) carry advantages of both signs, so Balanced "
            "Aggregation is undefined for them; set algorithm.adv_estimator to one with a single advantage per "
            "response, such as grpo"
        )
    return (high > 0).long() - (low < 0).long()


def group_numbers(group_ids: Sequence[Hashable], device: torch.device) -> Tensor:
    """(rows,) the ids as integers, numbered as they first appear."""
    numbers: defaultdict[Hashable, int] = defaultdict(count().__next__)
    ids = group_ids.tolist() if hasattr(group_ids, "tolist") else group_ids
    return torch.tensor(list(map(numbers.__getitem__, ids)), dtype=torch.long, device=device)


def row_blocks(matrix: Tensor) -> tuple[Tensor, ...]:
    """Row blocks small enough that their temporaries stay in cache; whole-batch ones cost more in page faults."""
    return matrix.split(max(1, 2**18 // max(1, matrix.shape[1])))


def aggregate(
    loss_mat: Tensor, loss_mask: Tensor, length_divisor: Tensor, global_batch_size: int | Tensor, dp_size: int = 1
) -> Tensor:
    """The weighted sum 1/N * sum_i 1/D_i * sum_t l_it over the responses at hand, times ``dp_size``.

    Summed over the micro-batches of a rank and averaged over ranks, as FSDP averages gradients, the results add up
    to the loss of the whole mini-batch however it was split.

    Args:
        loss_mat: (rows, tokens) token losses; anything, NaN included, may stand at masked tokens.
        loss_mask: (rows, tokens) nonzero where a token counts.
        length_divisor: (rows,) from :func:`length_divisors` over the whole batch.
        global_batch_size: N, responses in the optimizer's mini-batch over all data-parallel ranks, the ones without
            tokens included.
        dp_size: data-parallel ranks.

    Returns:
        Scalar; 0 (with a gradient of 0) when no token counts.

    Raises:
        ValueError: when there is not one divisor for each row.
    """
    if length_divisor.shape != loss_mat.shape[:1]:
        raise ValueError(f"length_divisor must be (rows,), got {tuple(length_divisor.shape)} for {len(loss_mat)} rows")
    # where, not loss * mask: NaN * 0 is NaN, and verl's padding rows may hold anything.
    response_losses = torch.where(loss_mask.bool(), loss_mat, 0).sum(dim=-1)
    return (response_losses / length_divisor).sum() / global_batch_size * dp_size
