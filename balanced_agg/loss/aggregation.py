"""Loss aggregation for group-sampled policy gradients: one weighted sum, and a length divisor for each response.

Response i of a mini-batch of N responses has token losses l_it. Every aggregation here is

    loss = 1/N * sum_i  1/D_i * sum_t l_it

and differs only in the length divisor D_i, for which rules.py has a function each. Those that matter most:

    mode                  D_i                                                        known as
    seq-mean-token-mean   length of response i                                       sequence aggregation, GRPO
    group-token-mean      mean length of the responses in i's group                  token aggregation per group, DAPO
    token-mean            mean length of all responses given                         token aggregation in verl and TRL
    balanced              mean length of the responses in i's group that share       Balanced Aggregation
                          the sign of i's advantage

The statistics are those of the whole group. They are computed once, where whole groups are at hand, and travel as
one number per row; a micro-batch or a rank never sees enough of a group to compute them itself.
"""

from collections.abc import Hashable, Sequence

import torch
from torch import Tensor

from balanced_agg.loss.responses import Rows
from balanced_agg.loss.rules import rule_of


def length_divisors(
    mode: str,
    group_ids: Sequence[Hashable],
    advantages: Tensor,
    response_mask: Tensor,
    session_ids: Sequence[Hashable] | None = None,
    response_budget: float | None = None,
) -> Tensor:
    """The length divisor D_i of the response that each row belongs to.

    Args:
        mode: a loss_agg_mode, ``RULE[:PARAMETER][@equal-mass]`` (rules.py).
        group_ids: (rows,) one hashable per row, equal within a group; groups may differ in size and be scattered.
        advantages: (rows, tokens) only unmasked tokens count; anything, NaN included, may stand elsewhere.
        response_mask: (rows, tokens) 1 where a token counts, else 0, after rejection and overlong masking.
        session_ids: (rows,) one hashable per row, equal for the rows of one response and different in other groups;
            None where each row is a response.
        response_budget: the longest response allowed, in tokens; only rules that divide by it need it.

    Returns:
        (rows,) float32, in tokens, on the mask's device. Responses without tokens are in no mean and get 1, so that
        they stay harmless in a division.

    Raises:
        ValueError: unknown mode, shapes that disagree, a rule that gives no finite positive number for each response,
            or, under a rule that looks at signs, a response whose unmasked advantages have both signs or are NaN.
    """
    rule = rule_of(mode)
    responses = Rows.measured(group_ids, session_ids, advantages, response_mask).responses(response_budget)
    return responses.for_rows(rule.divisors(responses), without_tokens=1.0).float()


def rescaled_advantages(
    mode: str,
    group_ids: Sequence[Hashable],
    advantages: Tensor,
    response_mask: Tensor,
    session_ids: Sequence[Hashable] | None = None,
    response_budget: float | None = None,
) -> Tensor:
    """A_i * mean length / D_i: under these an ordinary token mean over the batch has the gradient of the rule.

    The token mean of T tokens is 1/T * sum_i sum_t l_it, the rule's loss 1/N * sum_i 1/D_i * sum_t l_it: the factor
    between them is (T / N) / D_i. It may stand on the advantage where a token's loss is positively homogeneous in it:
    under PPO's clipped loss, dual clip included, GSPO, CISPO and REINFORCE. Losses that compare advantages of tokens
    (clip_cov, kl_cov), or have a term without one (dro), are not. KL and entropy terms keep their token mean.

    Args:
        advantages: (rows, tokens), or (rows,) where a row has one.
        mode, group_ids, response_mask, session_ids, response_budget: as for :func:`length_divisors`.

    Returns:
        The shape, dtype and device of ``advantages``. Rows of responses without tokens come back as they are; N counts
        these responses.

    Raises:
        ValueError: what :func:`length_divisors` raises.
    """
    one_a_row = advantages.shape == response_mask.shape[:1] != response_mask.shape
    of_tokens = advantages[:, None].expand_as(response_mask) if one_a_row else advantages
    responses = Rows.measured(group_ids, session_ids, of_tokens, response_mask).responses(response_budget)
    mean_length = responses.lengths.sum() / responses.total
    factors = responses.for_rows(mean_length / rule_of(mode).divisors(responses), without_tokens=1.0)
    return advantages * (factors if one_a_row else factors[:, None]).to(advantages.dtype)


def aggregate(
    loss_mat: Tensor, loss_mask: Tensor, length_divisor: Tensor, global_batch_size: float | Tensor, dp_size: int = 1
) -> Tensor:
    """The weighted sum 1/N * sum_i 1/D_i * sum_t l_it over the rows at hand, times ``dp_size``.

    Summed over the micro-batches of a rank and averaged over ranks, as FSDP averages gradients, the results add up
    to the loss of the whole mini-batch however it was split.

    Args:
        loss_mat: (rows, tokens) token losses; anything, NaN included, may stand at masked tokens.
        loss_mask: (rows, tokens) nonzero where a token counts.
        length_divisor: (rows,) from :func:`length_divisors` over the whole batch.
        global_batch_size: N, responses in the optimizer's mini-batch over all data-parallel ranks, the ones without
            tokens included. Where responses are several rows and a mini-batch holds parts of some: those of the batch
            over the number of mini-batches.
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
