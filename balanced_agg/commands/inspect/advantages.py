"""GRPO advantages from scores, as verl's V1 trainer computes them."""

from collections.abc import Sequence

import torch
from torch import Tensor

EPSILON = 1e-6  # verl's


def grpo_advantages(
    scores: Tensor, groups: Tensor, sessions: Tensor, outputs: Sequence[int], divide_by_std: bool = True
) -> Tensor:
    """(score - mean of the group) / (standard deviation of the group + 1e-6), from the last output of each session.

    As `compute_grpo_outcome_advantage` and `compute_advantage_for_multi_trajectories` of verl 0.9.1: the deviation is
    that of a sample (n - 1); a group of one keeps its score, divided by 1 + 1e-6; a session (one run of an agent) that
    left several outputs enters its group with the last one, whose advantage all of them get.

    Args:
        scores: (rows,) sum of the token rewards; of a session's earlier outputs it does not matter.
        groups: (rows,) number of the group.
        sessions: (rows,) number of the session, numbered from 0 in the order of their first row.
        outputs: (rows,) place of the output in its session.
        divide_by_std: False leaves the division out, as Dr. GRPO does (verl's norm_adv_by_std_in_grpo).

    Returns:
        (rows,) float64. verl computes in float32: where the equal scores of a group are no binary fractions, rounding
        gives it advantages of about 0.01 there; here they are 0.
    """
    last: dict[int, int] = {}
    for row, session in enumerate(sessions.tolist()):
        if session not in last or outputs[last[session]] < outputs[row]:
            last[session] = row
    final = torch.tensor(list(last.values()), dtype=torch.long)

    # As float32, which verl's rewards are, equal scores have exactly their mean in float64.
    score, group = scores.float().double()[final], groups[final]
    size = torch.bincount(group)
    alone = size == 1
    mean = torch.where(alone, 0.0, torch.bincount(group, score) / size)
    above = score - mean[group]
    if divide_by_std:
        deviation = torch.where(alone, 1.0, (torch.bincount(group, above**2) / (size - 1)).sqrt())
        above = above / (deviation[group] + EPSILON)
    return above[sessions]
