"""What each aggregation would do to the batch at hand: length and sign statistics, on the driver, once a step.

Response i has L_i tokens, the advantage A_i and, under a rule of rules.py, the length divisor D_i. At the first update
after a rollout the policy ratio is 1, so that each of its tokens has the loss -A_i and the whole response the gradient
mass m_i = |A_i| L_i / D_i. Signs are those of the advantages: a positive response has A_i > 0.

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

Of the rule that the run trains with, by optimizer step:

    step_positive_share_min  the smallest positive_share of a step, and step_positive_share_max the largest: a rule by
                             group holds for the batch, and for a step only as far as the step has whole groups
    cut_groups               groups with rows in more than one optimizer step / groups

Responses without tokens count in N only; those of advantage 0 have no gradient and are in no other measure of an
aggregation. A quarter of n responses is n/4 rounded up, and all that are as long as its last. The batch is that of the
whole step: where it is cut into several mini-batches, `batch_token` is verl's ``token-mean`` of an average one.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from balanced_agg.loss.responses import Responses, Rows
from balanced_agg.loss.rules import RULES, Rule


def aggregation_metrics(responses: Responses, rules: Iterable[Rule] = RULES.values()) -> dict[str, float]:
    """All measures of the batch and of each rule that are defined for it; the others are left out.

    `responses` are those of the whole batch, with a budget.
    """
    lengths, groups, advantages = responses.lengths, responses.groups, responses.advantages
    # Where a critic gives tokens advantages of both signs, their mean stands for the response; NaN stops no run here.
    of_mean = advantages.nan_to_num(0.0)
    responses = replace(responses, lowest=of_mean, highest=of_mean)
    signs = responses.signs

    metrics = dict(_batch_measures(groups, signs, lengths))
    acting = signs != 0
    acts = bool(acting.any())
    quarters = {
        "long_token_weight": _Quarters(torch.zeros_like(groups)[acting], lengths[acting]),
        "long_token_weight_within_sign": _Quarters(responses.signed_groups[acting], lengths[acting]),
    }
    for rule in rules:
        name, divisors = rule.name, rule.divisors(responses)
        if responses.total:
            metrics[f"{name}/drift"] = 0.0 - (advantages * lengths / divisors).sum().item() / responses.total
        if acts:
            mass = (advantages.abs() * lengths / divisors)[acting]
            metrics[f"{name}/positive_share"] = (mass[advantages[acting] > 0].sum() / mass.sum()).item()
            metrics[f"{name}/effective_sequences"] = (mass.sum() ** 2 / (mass**2).sum()).item()
            ratios = {measure: of.long_to_short(divisors[acting]) for measure, of in quarters.items()}
            metrics |= {f"{name}/{measure}": ratio.mean().item() for measure, ratio in ratios.items() if len(ratio)}
    return metrics


def step_metrics(rows: Rows, responses: Responses, rule: Rule, steps: Tensor) -> dict[str, float]:
    """The measures by optimizer step that are defined for this batch.

    Args:
        rows, responses: of the batch.
        rule: the one that it is trained with.
        steps: (rows,) number of the optimizer step that a row is in, from 0.
    """
    weights = responses.advantages.abs() / rule.divisors(responses)
    mass = rows.lengths * responses.for_rows(weights, without_tokens=0.0)
    positive = responses.for_rows((responses.advantages > 0).double(), without_tokens=0.0)
    shares = torch.bincount(steps, mass * positive) / torch.bincount(steps, mass)
    shares = shares[~shares.isnan()]  # of a step without a gradient
    metrics = {}
    if len(shares):
        metrics["step_positive_share_min"] = shares.min().item()
        metrics["step_positive_share_max"] = shares.max().item()
    groups = responses.for_rows(responses.groups, without_tokens=-1)
    cells = torch.unique(torch.stack([groups, steps])[:, groups >= 0], dim=1)
    if cells.shape[1]:
        steps_of_group = torch.bincount(cells[0])
        metrics["cut_groups"] = ((steps_of_group > 1).sum() / (steps_of_group > 0).sum()).item()
    return metrics


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
