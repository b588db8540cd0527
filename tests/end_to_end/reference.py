"""Gradient norms of a recorded batch of rollouts in float64, in one process, by the formulas as they are written.

A response is a session of verl's: the rows ``{group}_{session}_{place}``, of which the last has the score.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model, set_peft_model_state_dict
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel

OURS = ("balanced", "group-token-mean")
LORA_ALPHA = 16  # verl's default


@contextmanager
def _one_thread() -> Iterator[None]:
    """Matrices as small as these gain nothing by threads, which wait for each other where cores are shared."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def gradient_norm(
    model_dir: Path,
    recorded: Path,
    mode: str,
    weights: dict[str, Tensor] | None = None,
    old_weights: dict[str, Tensor] | None = None,
) -> float:
    """:func:`gradient_norms` of one optimizer step on the whole batch."""
    (norm,) = gradient_norms(model_dir, recorded, mode, weights=weights, old_weights=old_weights)
    return norm


@_one_thread()
def gradient_norms(
    model_dir: Path,
    recorded: Path,
    mode: str,
    step_of: Sequence[int] | None = None,
    weights: dict[str, Tensor] | None = None,
    old_weights: dict[str, Tensor] | None = None,
) -> list[float]:
    """Norm of the gradient of GRPO's loss in each optimizer step on a recorded batch, all at the same weights.

    Args:
        recorded: a file of ``skip.rollout_tq`` or of updates.py.
        step_of: number of the optimizer step of each row, from 0, under OURS; one step if None.
        weights: of the model before the update; those in ``model_dir`` if None.
        old_weights: of the old policy; those of the model if None, where the ratio is 1 and the gradient of the clipped
            token loss is that of -A log p.
    """
    batch = torch.load(recorded, weights_only=False)
    data = batch["tensordict"]
    row_weights, advantages = weights_and_advantages(mode, batch)
    model = load_model(model_dir, weights)
    old_model = load_model(model_dir, old_weights) if old_weights else None
    step_of = [0] * len(batch["keys"]) if step_of is None else step_of
    steps = max(step_of) + 1

    norms = []
    for step in range(steps):
        total = torch.zeros((), dtype=torch.float64)
        for row in row_weights:
            if step_of[row] != step:
                continue
            prompt, response = data["prompts"][row], data["responses"][row]
            chosen = log_probs_of(model, prompt, response)
            with torch.no_grad():
                old = log_probs_of(old_model, prompt, response) if old_model else chosen.detach()
            losses = _clipped(advantages[row], torch.exp(chosen - old))
            total = total + steps * row_weights[row] * (losses * data["response_mask"][row]).sum()
        model.zero_grad()
        if total.requires_grad:  # else it has padding alone
            total.backward()
        norms.append(sum(float(p.grad.norm()) ** 2 for p in model.parameters() if p.grad is not None) ** 0.5)
    return norms


def load_model(model_dir: Path, weights: dict[str, Tensor] | None) -> PreTrainedModel:
    """The model with these weights, or with this LoRA adapter, which alone is then to be trained."""
    model = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float64, attn_implementation="eager")
    if weights is None:
        return model
    ranks = {len(tensor) for name, tensor in weights.items() if "lora_A" in name}
    if not ranks:
        model.load_state_dict(weights)
        return model
    model = get_peft_model(model, LoraConfig(r=ranks.pop(), lora_alpha=LORA_ALPHA, target_modules="all-linear"))
    assert not set_peft_model_state_dict(model, weights).unexpected_keys
    return model.double()


@_one_thread()
def log_probs_of(model: PreTrainedModel, prompt: Tensor, response: Tensor) -> Tensor:
    """(tokens,) of the response."""
    log_probs = torch.log_softmax(model(torch.cat([prompt, response])[None]).logits[0], dim=-1)
    return log_probs[len(prompt) - 1 : -1].gather(-1, response[:, None])[:, 0]


def groups_of(keys: Sequence[str]) -> list[list[list[int]]]:
    """The groups of a batch, each its sessions, each its rows from first to last. verl's padding is in none."""
    groups: dict[str, dict[str, list[int]]] = {}
    for row in sorted(range(len(keys)), key=lambda row: int(keys[row].rsplit("_", 1)[1])):
        group, session, _ = keys[row].rsplit("_", 2)
        if not group.startswith("pad"):
            groups.setdefault(group, {}).setdefault(session, []).append(row)
    return [list(sessions.values()) for sessions in groups.values()]


def weights_and_advantages(mode: str, batch: dict) -> tuple[dict[int, float], dict[int, float]]:
    """Of each row that is no padding: the weight of its tokens in the loss, and its advantage.

    A = (r - mean) / (std + 1e-6) of the sessions of a group, std with Bessel's correction, r the score of the last row.
    """
    data = batch["tensordict"]
    groups = groups_of(batch["keys"])
    lengths = [int(mask.sum()) for mask in data["response_mask"].unbind()]
    rewards = [float(row.sum()) for row in data["rm_scores"].unbind()]
    rows_in_all = sum(len(rows) for sessions in groups for rows in sessions)
    tokens_in_all = sum(lengths[row] for sessions in groups for rows in sessions for row in rows)
    sessions_in_all = sum(map(len, groups))

    weights, advantages = {}, {}
    for sessions in groups:
        scores = torch.tensor([rewards[rows[-1]] for rows in sessions], dtype=torch.float64)
        of_session = ((scores - scores.mean()) / (scores.std() + 1e-6)).tolist()
        length = [sum(lengths[row] for row in rows) for rows in sessions]
        sign = [(a > 0) - (a < 0) if mode == "balanced" else 0 for a in of_session]
        for i, rows in enumerate(sessions):
            alike = [length[j] for j in range(len(sessions)) if sign[j] == sign[i]]
            for row in rows:
                advantages[row] = of_session[i]
                if mode in OURS:
                    weights[row] = 1 / sessions_in_all / (sum(alike) / len(alike))
                elif mode.endswith(".py:root"):
                    weights[row] = 1 / sessions_in_all / length[i] ** 0.5
                elif mode == "sign-weights:0.5@equal-mass":
                    weights[row] = (0.5 if of_session[i] > 0 else 1.0) / tokens_in_all
                elif mode == "token-mean":
                    weights[row] = 1 / tokens_in_all
                elif mode == "seq-mean-token-mean":
                    weights[row] = 1 / (rows_in_all * lengths[row])
    if mode.endswith("@equal-mass"):  # sum of |A| over the responses, each of which is one row here
        mass = sum(weights[row] * abs(advantages[row]) * lengths[row] for row in weights)
        wanted = sum(map(abs, advantages.values())) / sessions_in_all
        weights = {row: weight * wanted / mass for row, weight in weights.items()}
    return weights, advantages


def _clipped(advantage: float, ratio: Tensor) -> Tensor:
    """PPO's token losses with verl's bounds: 0.2 to either side, and 3 on the loss of a bad token (dual clip)."""
    losses = torch.maximum(-advantage * ratio, -advantage * ratio.clamp(0.8, 1.2))
    return losses.clamp(max=-advantage * 3.0) if advantage < 0 else losses
