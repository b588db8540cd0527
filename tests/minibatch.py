"""A mini-batch as verl's actor worker receives it, a model with a real backward pass, and a float64 reference.

The model is a table of next-token logits, one row per current token: small enough to reason about, and its gradient
reaches every token of every response.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from tensordict import TensorDict
from torch import Tensor
from verl.utils import tensordict_utils as tu
from verl.workers.config import FSDPActorConfig, FSDPEngineConfig, OptimizerConfig, PolicyLossConfig
from verl.workers.engine.utils import prepare_micro_batches
from verl.workers.utils.losses import ppo_loss

from balanced_agg.aggregation import length_divisors

OUR_MODES = ("balanced", "group-token-mean")
VOCABULARY = 11
JAGGED = (
    "prompts",
    "responses",
    "input_ids",
    "response_mask",
    "loss_mask",
    "old_log_probs",
    "ref_log_prob",
    "advantages",
)


@dataclass
class MiniBatch:
    data: TensorDict
    group_ids: list[str]

    def __len__(self) -> int:
        return len(self.group_ids)

    def rows(self, indices: Sequence[int] | Tensor) -> "MiniBatch":
        indices = [int(i) for i in indices]
        return MiniBatch(tu.index_select_tensor_dict(self.data, indices), [self.group_ids[i] for i in indices])

    permuted = rows

    def padded(self, key: str) -> Tensor:
        """(rows, longest response) of a field, zeros behind each row."""
        return self.data[key].to_padded_tensor(0)

    def with_divisors(self, mode: str) -> "MiniBatch":
        """A copy that carries the divisors of the whole batch, as the driver writes them."""
        data = self.data.clone()
        data["length_divisor"] = length_divisors(
            mode, self.group_ids, self.padded("advantages"), self.padded("response_mask")
        )
        return MiniBatch(data, self.group_ids)

    def with_divisors_of_each_micro_batch(self, mode: str, micro_batch_size: int) -> "MiniBatch":
        """A copy with the bug this project exists to avoid: counts of what happens to share a micro-batch."""
        divisors = [
            self.rows(range(start, start + micro_batch_size)).with_divisors(mode).data["length_divisor"]
            for start in range(0, len(self), micro_batch_size)
        ]
        data = self.data.clone()
        data["length_divisor"] = torch.cat(divisors)
        return MiniBatch(data, self.group_ids)

    def with_padding_rows(self, count: int) -> "MiniBatch":
        """A copy with rows such as verl appends to fill a batch: no unmasked token, a group id of their own."""
        padding = self.rows([0] * count).data
        for key in ("response_mask", "loss_mask"):
            padding[key] = padding[key] * 0
        for key in ("old_log_probs", "ref_log_prob", "advantages"):
            padding[key] = padding[key] * float("nan")
        ids = [f"pad{i}" for i in range(count)]
        return MiniBatch(tu.concat_tensordict([self.data, padding]), self.group_ids + ids)


def make_minibatch(seed: int, groups: int = 3, group_size: int = 4) -> MiniBatch:
    """Scattered groups of responses of many lengths, masks with holes, advantages of both signs and zero."""
    generator = torch.Generator().manual_seed(seed)

    def draw(low: int, high: int, size: int = 1) -> Tensor:
        return torch.randint(low, high, (size,), generator=generator)

    fields: dict[str, list[Tensor]] = {key: [] for key in JAGGED}
    rows = groups * group_size
    for row in range(rows):
        prompt, response = (draw(0, VOCABULARY, int(draw(low, high))) for low, high in ((2, 6), (3, 14)))
        mask = (torch.rand(len(response), generator=generator) < 0.8).long()
        mask[0] = 1
        # One response of the first group has advantage 0, the last group has one sign only.
        advantage = torch.randn((), generator=generator)
        advantage = 0 * advantage if row == 0 else advantage.abs() if row % groups == groups - 1 else advantage
        noise = 0.2 * torch.randn(2, len(response), generator=generator)
        fields["prompts"].append(prompt)
        fields["responses"].append(response)
        fields["input_ids"].append(torch.cat([prompt, response]))
        fields["response_mask"].append(mask)
        fields["loss_mask"].append(mask)
        fields["old_log_probs"].append(noise[0] - 2.4)
        fields["ref_log_prob"].append(noise[1] - 2.4)
        fields["advantages"].append(advantage * mask)
    jagged = {key: torch.nested.as_nested_tensor(value, layout=torch.jagged) for key, value in fields.items()}
    return MiniBatch(TensorDict(jagged, batch_size=rows), [f"group{row % groups}" for row in range(rows)])


def make_actor_config(mode: str, loss_mode: str = "vanilla", **changes) -> FSDPActorConfig:
    return FSDPActorConfig(
        strategy="fsdp2",
        rollout_n=4,
        ppo_micro_batch_size_per_gpu=1,
        loss_agg_mode=mode,
        policy_loss=PolicyLossConfig(loss_mode=loss_mode, dro_beta=0.1),
        optim=OptimizerConfig(lr=1e-3),
        fsdp_config=FSDPEngineConfig(),
        **changes,
    )


def initial_logits(dtype: torch.dtype = torch.float32) -> Tensor:
    """(current token, next token)"""
    generator = torch.Generator().manual_seed(123)
    return 0.3 * torch.randn(VOCABULARY, VOCABULARY, generator=generator, dtype=torch.float64).to(dtype)


def model_output(logits: Tensor, data: TensorDict) -> dict[str, Tensor]:
    """Log-probabilities and entropies as verl's engine returns them: nested, one entry per input token."""
    ids = data["input_ids"]
    log_probs = torch.log_softmax(logits, dim=-1)[ids.values()]
    targets = torch.roll(ids.values(), shifts=-1, dims=0)
    flat = {
        "log_probs": log_probs.gather(-1, targets[:, None]).squeeze(-1),
        "entropy": -(log_probs.exp() * log_probs).sum(dim=-1),
    }
    return {key: torch.nested.nested_tensor_from_jagged(value, offsets=ids.offsets()) for key, value in flat.items()}


def micro_batch_losses(
    logits: Tensor,
    batch: MiniBatch,
    config: FSDPActorConfig,
    *,
    micro_batch_size: int | None = None,
    token_budget: int | None = None,
    responses: int | None = None,
    tokens: int | None = None,
    dp_size: int = 1,
):
    """Yield verl's (loss, metrics) of each micro-batch, split by rows or by a budget of tokens.

    ``responses`` and ``tokens`` are those of the whole mini-batch over all ranks; by default this batch is all of it.
    """
    data = batch.data.clone()
    tu.assign_non_tensor(
        data,
        dp_size=dp_size,
        global_batch_size=responses or len(batch),
        batch_num_tokens=tokens or int(data["loss_mask"].values().sum()),
        use_dynamic_bsz=token_budget is not None,
        max_token_len_per_gpu=token_budget,
        micro_batch_size_per_gpu=micro_batch_size or len(batch),
    )
    for micro_batch in prepare_micro_batches(data, same_micro_num_in_dp=False)[0]:
        yield ppo_loss(config, model_output(logits, micro_batch), micro_batch)


def gradient(batch: MiniBatch, mode: str, config: FSDPActorConfig | None = None, **split) -> Tensor:
    """The gradient that one optimizer step under ``mode`` would see, accumulated over micro-batches."""
    if mode in OUR_MODES and "length_divisor" not in batch.data:
        batch = batch.with_divisors(mode)
    logits = initial_logits().requires_grad_()
    for loss, _ in micro_batch_losses(logits, batch, config or make_actor_config(mode), **split):
        loss.backward()
    return logits.grad


def metrics(batch: MiniBatch, config: FSDPActorConfig, **split) -> dict[str, float]:
    """verl's metrics of the mini-batch: each micro-batch's part, summed."""
    totals: dict[str, float] = {}
    if config.loss_agg_mode in OUR_MODES:
        batch = batch.with_divisors(config.loss_agg_mode)
    for _, parts in micro_batch_losses(initial_logits(), batch, config, **split):
        for key in ("actor/pg_loss", "actor/entropy_loss", "kl_loss"):
            totals[key] = totals.get(key, 0.0) + float(parts[key].values[0])
    return totals


def reference_gradient(batch: MiniBatch, mode: str, clip: float = 0.2, clip_c: float = 3.0) -> Tensor:
    """Gradient of the clipped policy loss by a float64 double loop over groups and subsets, in the paper's words.

    In each group, the mean token loss of every subset weighs its share of the group's responses; groups weigh their
    share of the mini-batch. Under ``group-token-mean`` a group is one subset.
    """
    logits = initial_logits(torch.float64).requires_grad_()
    log_softmax = torch.log_softmax(logits, dim=-1)
    total = torch.zeros((), dtype=torch.float64)
    for group in sorted(set(batch.group_ids)):
        members = [row for row, group_id in enumerate(batch.group_ids) if group_id == group]
        subsets: dict[float, list[int]] = {}
        for row in members:
            sign = float(batch.data["advantages"][row].sum().sign()) if mode == "balanced" else 0.0
            subsets.setdefault(sign, []).append(row)
        for rows in subsets.values():
            token_losses = []
            for row in rows:
                ids = batch.data["input_ids"][row]
                response = batch.data["responses"][row]
                start = len(ids) - len(response)
                for t in range(len(response)):
                    if batch.data["response_mask"][row][t]:
                        log_prob = log_softmax[ids[start + t - 1], ids[start + t]]
                        ratio = torch.exp(log_prob - batch.data["old_log_probs"][row][t].double())
                        advantage = batch.data["advantages"][row][t].double()
                        loss = torch.maximum(-advantage * ratio, -advantage * ratio.clamp(1 - clip, 1 + clip))
                        if advantage < 0:
                            loss = torch.minimum(loss, -advantage * clip_c)
                        token_losses.append(loss)
            total = total + len(rows) / len(batch) * torch.stack(token_losses).mean()
    total.backward()
    return logits.grad


def relative_error(actual: Tensor, expected: Tensor) -> float:
    return float((actual.double() - expected).norm() / expected.norm())
