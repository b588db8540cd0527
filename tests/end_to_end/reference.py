"""Gradient norms of a recorded batch of rollouts in float64, in one process, by the formulas as they are written."""

from pathlib import Path

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM


def gradient_norm(model_dir: Path, recorded: Path, mode: str) -> float:
    """Norm of the gradient of GRPO's first, on-policy update on a batch that ``skip.rollout_tq`` recorded.

    At ratio 1 the gradient of the clipped token loss is that of -A log p, with A = (r - mean) / (std + 1e-6) over the
    group, std with Bessel's correction.
    """
    batch = torch.load(recorded, weights_only=False)["tensordict"]
    uids = list(batch["uid"])
    rewards = torch.stack([row.sum() for row in batch["rm_scores"].unbind()]).double()
    lengths = torch.tensor([int(mask.sum()) for mask in batch["response_mask"].unbind()]).double()
    groups = {uid: [i for i, other in enumerate(uids) if other == uid] for uid in dict.fromkeys(uids)}

    advantages = torch.zeros(len(uids), dtype=torch.float64)
    for rows in groups.values():
        advantages[rows] = (rewards[rows] - rewards[rows].mean()) / (rewards[rows].std() + 1e-6)

    model = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float64, attn_implementation="eager")
    # Sum of log-probabilities of each response, the only thing the modes weigh differently.
    total = torch.zeros((), dtype=torch.float64)
    for row, weight in enumerate(_weights(mode, groups, advantages, lengths)):
        prompt, response = batch["prompts"][row], batch["responses"][row]
        ids = torch.cat([prompt, response])[None]
        log_probs = torch.log_softmax(model(ids).logits[0], dim=-1)
        chosen = log_probs[len(prompt) - 1 : -1].gather(-1, response[:, None])[:, 0]
        total = total - weight * advantages[row] * (chosen * batch["response_mask"][row]).sum()
    total.backward()
    return float(torch.stack([p.grad.norm() for p in model.parameters() if p.grad is not None]).norm())


def _weights(mode: str, groups: dict[str, list[int]], advantages: Tensor, lengths: Tensor) -> list[float]:
    """The weight of each response's tokens."""
    responses = len(advantages)
    if mode == "token-mean":
        return [1 / float(lengths.sum())] * responses
    if mode == "seq-mean-token-mean":
        return [1 / (responses * float(length)) for length in lengths]
    weights = [0.0] * responses
    for rows in groups.values():
        signs = {row: float(advantages[row].sign()) if mode == "balanced" else 0.0 for row in rows}
        for row in rows:
            subset = [other for other in rows if signs[other] == signs[row]]
            share_of_group = len(subset) / len(rows)
            weights[row] = len(rows) / responses * share_of_group / float(lengths[subset].sum())
    return weights
