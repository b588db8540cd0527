"""Gradient norms of a recorded batch of rollouts in float64, in one process, by the formulas as they are written."""

from pathlib import Path

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel


def gradient_norm(
    model_dir: Path,
    recorded: Path,
    mode: str,
    weights: dict[str, Tensor] | None = None,
    old_weights: dict[str, Tensor] | None = None,
) -> float:
    """Norm of the gradient of GRPO's loss on a batch that ``skip.rollout_tq`` recorded.

    A = (r - mean) / (std + 1e-6) over the group, std with Bessel's correction.

    Args:
        weights: of the model before the update; those in ``model_dir`` if None.
        old_weights: of the old policy; those of the model if None, where the ratio is 1 and the gradient of the clipped
            token loss is that of -A log p.
    """
    batch = torch.load(recorded, weights_only=False)["tensordict"]
    uids = list(batch["uid"])
    rewards = torch.stack([row.sum() for row in batch["rm_scores"].unbind()]).double()
    lengths = torch.tensor([int(mask.sum()) for mask in batch["response_mask"].unbind()]).double()
    groups = {uid: [i for i, other in enumerate(uids) if other == uid] for uid in dict.fromkeys(uids)}

    advantages = torch.zeros(len(uids), dtype=torch.float64)
    for rows in groups.values():
        advantages[rows] = (rewards[rows] - rewards[rows].mean()) / (rewards[rows].std() + 1e-6)

    model = load_model(model_dir, weights)
    old_model = load_model(model_dir, old_weights) if old_weights else None
    # Sum of the token losses of each response, the only thing the modes weigh differently.
    total = torch.zeros((), dtype=torch.float64)
    for row, weight in enumerate(_weights(mode, groups, advantages, lengths)):
        prompt, response = batch["prompts"][row], batch["responses"][row]
        chosen = log_probs_of(model, prompt, response)
        with torch.no_grad():
            old = log_probs_of(old_model, prompt, response) if old_model else chosen.detach()
        losses = _clipped(advantages[row], torch.exp(chosen - old))
        total = total + weight * (losses * batch["response_mask"][row]).sum()
    total.backward()
    return float(torch.stack([p.grad.norm() for p in model.parameters() if p.grad is not None]).norm())


def load_model(model_dir: Path, weights: dict[str, Tensor] | None) -> PreTrainedModel:
    model = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float64, attn_implementation="eager")
    if weights is not None:
        model.load_state_dict(weights)
    return model


def log_probs_of(model: PreTrainedModel, prompt: Tensor, response: Tensor) -> Tensor:
    """(tokens,) of the response."""
    log_probs = torch.log_softmax(model(torch.cat([prompt, response])[None]).logits[0], dim=-1)
    return log_probs[len(prompt) - 1 : -1].gather(-1, response[:, None])[:, 0]


def _clipped(advantage: Tensor, ratio: Tensor) -> Tensor:
    """PPO's token losses with verl's bounds: 0.2 to either side, and 3 on the loss of a bad token (dual clip)."""
    losses = torch.maximum(-advantage * ratio, -advantage * ratio.clamp(0.8, 1.2))
    return torch.minimum(losses, -advantage * 3.0) if advantage < 0 else losses


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
