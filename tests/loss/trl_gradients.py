"""Real steps of TRL under rules: the gradient of each optimizer step, beside that of `aggregate` in one process.

    python -m torch.distributed.run --standalone --nproc-per-node 2 tests/loss/trl_gradients.py OUT.json

TRL and trl_rules.py of docs/rules.md are on the path. Ranks train in float64 on a CPU. The expected gradient is of what
all of them sampled, computed a response at a time, with nothing of TRL's loss.
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from datasets import Dataset
from torch import Tensor, nn
from transformers import TrainerCallback
from trl import GRPOConfig
from trl_rules import RuleTrainer

from balanced_agg.arithmetic.model import build_model
from balanced_agg.arithmetic.tokenizer import build_tokenizer
from balanced_agg.loss.aggregation import aggregate, length_divisors

BUDGET = 24  # tokens
CLIP = 0.2  # TRL's default
# Rule -> settings other than TRL's defaults. Several optimizer steps a generation bring ratios other than 1.
CASES: dict[str, dict[str, Any]] = {
    "balanced": {"gradient_accumulation_steps": 2},
    "group-token-mean": {"gradient_accumulation_steps": 2, "steps_per_generation": 4},
    "delta-l": {"steps_per_generation": 2, "loss_type": "cispo", "epsilon_high": 1.2},
    "seq-mean-token-mean": {"mask_truncated_completions": True},
}


class Recording(RuleTrainer):
    """It keeps what all ranks sampled, and which of these rows this rank's optimizer step is of."""

    def _generate_and_score_completions(self, inputs: list[dict]) -> dict[str, Tensor]:
        batch = super()._generate_and_score_completions(inputs)
        batch["row"] = torch.arange(len(inputs)) + len(inputs) * self.accelerator.process_index
        kept = [name for name, values in batch.items() if values.dim() and name != "advantages"]
        rows = [{name: batch[name][i].clone() for name in kept} | inputs[i] for i in range(len(inputs))]
        self.sampled = gather_object(rows)
        # As TRL logs them, before a rule rescales them.
        self.advantages = list(self._logs["advantages"])[-len(self.sampled) :]
        self.window: list[int] = []
        return batch

    def _compute_loss(self, model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
        self.window += inputs["row"].tolist()
        return super()._compute_loss(model, inputs)


class Comparison(TrainerCallback):
    """Before each optimizer step: the gradient that TRL has, beside the expected one and that of a token mean."""

    def __init__(self) -> None:
        self.steps: list[dict[str, float]] = []

    def on_pre_optimizer_step(self, args, state, control, *, model: nn.Module, **named) -> None:
        window = gather_object(self.trainer.window)
        self.trainer.window = []
        found = torch.cat([parameter.grad.flatten() for parameter in model.parameters()])
        expected, ratios = expected_gradient(self.trainer, model, self.trainer.rule, window)
        other, _ = expected_gradient(self.trainer, model, "token-mean", window)
        scale = expected.abs().max()
        self.steps.append(
            {
                "rows": len(window),
                "without_tokens": sum(not self.trainer.sampled[row]["completion_mask"].any() for row in window),
                "clipped": ((ratios - 1).abs() > CLIP).double().mean().item(),
                "difference": ((found - expected).abs().max() / scale).item(),
                "difference_of_token_mean": ((found - other).abs().max() / scale).item(),
            }
        )


def expected_gradient(trainer: Recording, model: nn.Module, rule: str, window: list[int]) -> tuple[Tensor, Tensor]:
    """Of the rows in a window, (parameters,), and the ratios of their tokens."""
    # A copy of the trainer's would run the trainer's, whose forward accelerate has wrapped.
    weights, model = model.state_dict(), build_model(seed=0).double()
    model.load_state_dict(weights)
    rows = trainer.sampled
    lengths = torch.tensor([row["completion_mask"].sum() for row in rows])
    mask = torch.arange(BUDGET) < lengths[:, None]
    advantages = torch.tensor(trainer.advantages)[:, None] * mask
    divisors = length_divisors(rule, [row["prompt"] for row in rows], advantages, mask, response_budget=BUDGET)
    ratios = []
    for number in window:
        row, length, advantage = rows[number], lengths[number], trainer.advantages[number]
        if not length:
            continue
        prompt, completion = row["prompt_ids"][row["prompt_mask"].bool()], row["completion_ids"][:length]
        logits = model(torch.cat([prompt, completion])[None]).logits[0, len(prompt) - 1 : -1]
        log_probs = logits.log_softmax(-1).gather(1, completion[:, None]).squeeze(1)
        old = row["old_per_token_logps"][:length] if "old_per_token_logps" in row else log_probs.detach()
        ratio = (log_probs - old).exp()
        ratios.append(ratio.detach())
        if trainer.loss_type == "cispo":
            losses = -ratio.clamp(max=trainer.epsilon_high).detach() * advantage * log_probs
        else:
            losses = -torch.minimum(ratio * advantage, ratio.clamp(1 - CLIP, 1 + CLIP) * advantage)
        ones = torch.ones(1, len(completion))
        aggregate(losses[None], ones, divisors[number : number + 1], len(window)).backward()
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters()]), torch.cat(ratios)


def reward(completion_ids: list[list[int]], **columns: list) -> list[float]:
    return [float(sum(ids) % 3 == 0) for ids in completion_ids]


def steps_under(rule: str, settings: dict[str, Any], folder: str) -> list[dict[str, float]]:
    comparison = Comparison()
    model = build_model(seed=0).double()
    comparison.trainer = Recording(
        model=model,
        rule=rule,
        reward_funcs=reward,
        train_dataset=Dataset.from_dict({"prompt": [f"{a}+{b}=" for a in range(10) for b in range(10)]}),
        processing_class=build_tokenizer(),
        callbacks=[comparison],
        # With a learning rate of this size the second step of a generation is clipped.
        optimizers=(torch.optim.SGD(model.parameters(), lr=1.0), None),
        args=GRPOConfig(
            output_dir=folder,
            per_device_train_batch_size=8,  # responses
            num_generations=4,
            max_completion_length=BUDGET,
            max_steps=2,
            max_grad_norm=0.0,  # no clipping
            lr_scheduler_type="constant",
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            **settings,
        ),
    )
    comparison.trainer.train()
    return comparison.steps


def main(out: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        found = {rule: steps_under(rule, settings, folder) for rule, settings in CASES.items()}
    if torch.distributed.get_rank() == 0:
        out.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
