"""What each aggregation would do to the batch at hand: length and sign statistics, on the driver, once a step.

Response i has L_i tokens, the advantage A_i and, under an aggregation, the length divisor D_i (aggregation.py). At the
first update after a rollout the policy ratio is 1, so that each of its tokens has the loss -A_i and the whole response
the gradient mass m_i = |A_i| L_i / D_i. Signs are those of the advantages: a positive response has A_i > 0.

Of the batch:

    within_group_length_cv   standard deviation over mean of the lengths in a group, mean over the groups of two or more
    positive_length          mean L_i of the positive responses, in tokens; negative_length of the negative ones
    length_gap               (positive_length - negative_length) / (their mean); above 0, positive responses are longer
    length_gap_within_group  the same of each mixed group, mean over the mixed groups: prompts that are hard as well as
                             long make no gap here
    mixed_groups             groups that have responses of both signs / groups

Of each aggregation, under its name as a prefix (``token/drift``):

    positive_share           sum of m_i over the positive responses / sum of m_i
    drift                    -1/N sum_i A_i L_i / D_i, the value of the on-policy loss; the advantages of a group add up
                             to 0, so that what is left comes from lengths
    long_token_weight        mean 1/D_i of the tokens in the longest quarter of the responses / that in the shortest
    long_token_weight_within_sign
                             the same among the responses of one sign in a group, mean over all these subsets of two or
                             more: does a response's own length make its tokens lighter?
    effective_sequences      (sum of m_i)**2 / sum of m_i**2 (Kish): as many sequences of equal mass give as even a
                             gradient

Responses without tokens count in N only; those of advantage 0 have no gradient and are in no other measure of an
aggregation. A quarter of n responses is n/4 rounded up, and all that are as long as its last. The batch is that of the
whole step: where it is cut into several mini-batches, `batch_token` is verl's ``token-mean`` of an average one.
"""

from collections.abc import Hashable, Iterator, Sequence

import torch
from torch import Tensor

from balanced_agg.loss.aggregation import group_numbers, mean_lengths, row_blocks
from balanced_agg.loss.names import AGGREGATIONS


def aggregation_metrics(
    group_ids: Sequence[Hashable], lengths: Tensor, advantages: Tensor, response_budget: int
) -> dict[str, float]:
    """All measures of the module's docstring that are defined for this batch; the others are left out.

    Args:
        group_ids: (rows,) one hashable per response, equal within a group.
        lengths: (rows,) unmasked tokens of each response.
        advantages: (rows,) one advantage a response.
        response_budget: tokens; the constant that Dr. GRPO divides by. Only its drift depends on it.

    Raises:
        ValueError: arguments of different lengths, or a budget that is not positive.
    """
    if not len(group_ids) == len(lengths) == len(advantages):
        raise ValueError(f"{len(group_ids)} group_ids, {len(lengths)} lengths and {len(advantages)} advantages")
    if response_budget <= 0:
        raise ValueError(f"response_budget={response_budget}; set it to the longest response allowed, in tokens")
    rows = len(lengths)
    groups = group_numbers(group_ids, lengths.device)
    kept = lengths > 0
    groups, lengths, advantages = groups[kept], lengths[kept].double(), advantages[kept].double()
    signs = (advantages > 0).long() - (advantages < 0).long()

    metrics = dict(_batch_measures(groups, signs, lengths))
    acting = signs != 0
    quarters = {
        "long_token_weight": _Quarters(torch.zeros_like(groups)[acting], lengths[acting]),
        "long_token_weight_within_sign": _Quarters((3 * groups + 1 + signs)[acting], lengths[acting]),
    }
    for name, mode in AGGREGATIONS.items():
        if mode == "seq-mean-token-sum-norm":
            divisors = torch.full_like(lengths, response_budget)
        else:
            divisors = mean_lengths(mode, groups, signs, lengths)
        if rows:
            metrics[f"{name}/drift"] = 0.0 - (advantages * lengths / divisors).sum().item() / rows
        if bool(acting.any()):
            mass = (advantages.abs() * lengths / divisors)[acting]
            metrics[f"{name}/positive_share"] = (mass[advantages[acting] > 0].sum() / mass.sum()).item()
            metrics[f"{name}/effective_sequences"] = (mass.sum() ** 2 / (mass**2).sum()).item()
            ratios = {measure: of.long_to_short(divisors[acting]) for measure, of in quarters.items()}
            metrics |= {f"{name}/{measure}": ratio.mean().item() for measure, ratio in ratios.items() if len(ratio)}
    return metrics


def response_advantages(advantages: Tensor, response_mask: Tensor, lengths: Tensor) -> Tensor:
    """(rows,) mean unmasked advantage of each response; 0 for a response without tokens.

    From (rows, tokens) advantages and mask, and the (rows,) lengths of the mask (:func:`response_lengths`).

    Group estimators give all tokens of a response one advantage. Where a critic gives each its own, the mean stands for
    the response.
    """
    blocks = zip(row_blocks(advantages), row_blocks(response_mask), strict=True)
    sums = torch.cat([torch.where(mask.bool(), values, 0).sum(dim=-1) for values, mask in blocks])
    return sums / lengths.clamp(min=1)


def _batch_measures(groups: Tensor, signs: Tensor, lengths: Tensor) -> Iterator[tuple[str, float]]:
    size = torch.bincount(groups)
    several = size >= 2
    if bool(several.any()):
        mean = torch.bincount(groups, lengths) / size
        deviation = (torch.bincount(groups, (lengths - mean[groups]) ** 2) / size).sqrt()
        yield "within_group_length_cv", (deviation / mean)[several].mean().item()

    positive, negative = signs > 0, signs < 0
    for name, of in (("positive_length", positive), ("negative_length", negative)):
        if bool(of.any()):
            yield name, lengths[of].mean().item()
    if bool(positive.any()) and bool(negative.any()):
        yield "length_gap", _gap(lengths[positive].mean(), lengths[negative].mean()).item()

    # NaN where a group has no response of a sign.
    in_groups = [
        torch.bincount(groups, lengths * of) / torch.bincount(groups, of.double()) for of in (positive, negative)
    ]
    gaps = _gap(*in_groups)
    mixed = ~gaps.isnan()
    if bool(mixed.any()):
        yield "length_gap_within_group", gaps[mixed].mean().item()
    present = size > 0
    if bool(present.any()):
        yield "mixed_groups", (mixed.sum() / present.sum()).item()


def _gap(positive: Tensor, negative: Tensor) -> Tensor:
    return (positive - negative) / ((positive + negative) / 2)


class _Quarters:
    """The longest and the shortest quarter of each subset of two or more responses."""

    def __init__(self, subsets: Tensor, lengths: Tensor) -> None:
        """Both (rows,): number of each response's subset, from 0, and its length, above 0."""
        size = torch.bincount(subsets)
        by_length = torch.argsort(lengths, stable=True)
        ascending = lengths[by_length[torch.argsort(subsets[by_length], stable=True)]]
        first, last, quarter = size.cumsum(0) - size, size.cumsum(0) - 1, (size + 3) // 4
        # Numbers that no response has point at other subsets' lengths, and nobody asks for them.
        longest_of_short = ascending[(first + quarter - 1).clamp(min=0)]
        shortest_of_long = ascending[(last - quarter + 1).clamp(max=len(lengths) - 1)]
        self.subsets, self.lengths, self.several = subsets, lengths, size >= 2
        self.short, self.long = lengths <= longest_of_short[subsets], lengths >= shortest_of_long[subsets]

    def long_to_short(self, divisors: Tensor) -> Tensor:
        """(subsets of two or more,) mean 1/D of the tokens in the longest quarter over that in the shortest."""
        weights = [
            torch.bincount(self.subsets, self.lengths / divisors * quarter)
            / torch.bincount(self.subsets, self.lengths * quarter)
            for quarter in (self.long, self.short)
        ]
        return (weights[0] / weights[1])[self.several]
