"""A mini-batch as verl's actor worker receives it, a model with a real backward pass, and a float64 reference.

The model is a table of next-token logits, one row per current token: small enough to reason about, and its gradient
reaches every token of every response.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from tensordict import TensorDict
from torch import Tensor
from torch.distributed import ProcessGroup
from verl.utils import tensordict_utils as tu
from verl.workers.config import FSDPActorConfig, FSDPEngineConfig, OptimizerConfig, PolicyLossConfig
from verl.workers.engine.utils import prepare_micro_batches
from verl.workers.utils.losses import ppo_loss

from balanced_agg.loss.aggregation import length_divisors
from balanced_agg.loss.rules import is_plugin_mode

OUR_MODES = ("balanced", "group-token-mean")
VOCABULARY = 11
RESPONSE_BUDGET = 16  # tokens
CLIP, DUAL_CLIP = 0.2, 3.0  # verl's defaults
REFERENCE_FIELDS = ("input_ids", "response_mask", "old_log_probs", "advantages")
CLIP_EDGES = (1 - CLIP, 1 + CLIP, DUAL_CLIP)


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

    def tokens(self) -> int:
        return int(self.data["loss_mask"].values().sum())

    def padded(self, key: str) -> Tensor:
        """(rows, longest response) of a field, zeros behind each row."""
        return self.data[key].to_padded_tensor(0)

    def with_divisors(self, mode: str) -> "MiniBatch":
        """A copy that carries the divisors of the whole batch, as the driver writes them."""
        data = self.data.clone()
        data["length_divisor"] = length_divisors(
            mode,
            self.group_ids,
            self.padded("advantages"),
            self.padded("response_mask"),
            response_budget=RESPONSE_BUDGET,
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
        """A copy with rows such as verl appends to fill a batch, each with a group id of its own."""
        padding = assemble([padding_row()] * count, [f"pad{i}" for i in range(count)])
        return MiniBatch(tu.concat_tensordict([self.data, padding.data]), self.group_ids + padding.group_ids)


def make_minibatch(seed: int, groups: int = 3, group_size: int = 4) -> MiniBatch:
    """Scattered groups of responses of many lengths, masks with holes, advantages of both signs and zero."""
    generator = torch.Generator().manual_seed(seed)
    responses = []
    for row in range(groups * group_size):
        # One response of the first group has advantage 0, the last group has one sign only.
        advantage = float(torch.randn((), generator=generator))
        advantage = 0.0 if row == 0 else abs(advantage) if row % groups == groups - 1 else advantage
        length = int(torch.randint(3, 14, (), generator=generator))
        responses.append(draw_response(generator, length, advantage))
    return assemble(responses, [f"group{row % groups}" for row in range(len(responses))])


def draw_response(
    generator: torch.Generator, length: int, advantage: float, kept: float = 0.8, noise: float = 0.2
) -> dict[str, Tensor]:
    """The fields of one row: a random prompt and a random response of ``length`` tokens.

    Args:
        kept: the probability of a token to count. One token counts at least, unless this is 0.
        noise: standard deviation of old and reference log-probabilities around the model's own; 0 is on-policy.
    """
    prompt = torch.randint(VOCABULARY, (int(torch.randint(2, 6, (), generator=generator)),), generator=generator)
    response = torch.randint(VOCABULARY, (length,), generator=generator)
    mask = (torch.rand(length, generator=generator) < kept).long()
    mask[torch.randint(length, (), generator=generator)] = int(kept > 0)
    ids = torch.cat([prompt, response])
    log_probs = response_log_probs(torch.log_softmax(initial_logits(torch.float64), dim=-1), ids, length)
    log_ratios = noise * torch.randn(2, length, generator=generator, dtype=torch.float64)
    # At an edge of clipping the gradient jumps, so there two floating-point formats may rightly disagree.
    for edge in CLIP_EDGES:
        log_ratios[(log_ratios - math.log(edge)).abs() < 1e-5] += 1e-3
    old, reference = (log_probs - log_ratios).float()
    return {
        "prompts": prompt,
        "responses": response,
        "input_ids": ids,
        "response_mask": mask,
        "loss_mask": mask,
        "old_log_probs": old,
        "ref_log_prob": reference,
        "advantages": advantage * mask.float(),
    }


def padding_row() -> dict[str, Tensor]:
    """The fields of a row without an unmasked token, NaN wherever a number means nothing."""
    token, masked, undefined = torch.tensor([0]), torch.tensor([0]), torch.tensor([math.nan])
    return {
        "prompts": token,
        "responses": token,
        "input_ids": torch.cat([token, token]),
        "response_mask": masked,
        "loss_mask": masked,
        "old_log_probs": undefined,
        "ref_log_prob": undefined,
        "advantages": undefined,
    }


def response_log_probs(log_softmax: Tensor, ids: Tensor, length: int) -> Tensor:
    """(length,) log-probabilities of the last ``length`` tokens of a sequence, each given the one before it."""
    return log_softmax[ids[-length - 1 : -1], ids[-length:]]


def assemble(responses: Sequence[dict[str, Tensor]], group_ids: list[str]) -> MiniBatch:
    """The batch of these rows, each as :func:`draw_response` gives it."""
    fields = {key: [response[key] for response in responses] for key in responses[0]}
    jagged = {key: torch.nested.as_nested_tensor(value, layout=torch.jagged) for key, value in fields.items()}
    return MiniBatch(TensorDict(jagged, batch_size=len(responses)), group_ids)


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


def micro_batches(
    batch: MiniBatch,
    *,
    micro_batch_size: int | None = None,
    token_budget: int | None = None,
    responses: int | None = None,
    tokens: int | None = None,
    dp_size: int = 1,
    dp_group: ProcessGroup | None = None,
) -> list[TensorDict]:
    """verl's micro-batches of these rows, split by rows or by a budget of tokens.

    ``responses`` and ``tokens`` are those of the whole mini-batch over all ranks; by default this batch is all of it.
    Within a ``dp_group`` every rank gets the same number of micro-batches.
    """
    data = batch.data.clone()
    tu.assign_non_tensor(
        data,
        dp_size=dp_size,
        global_batch_size=responses or len(batch),
        batch_num_tokens=tokens or batch.tokens(),
        use_dynamic_bsz=token_budget is not None,
        max_token_len_per_gpu=token_budget,
        micro_batch_size_per_gpu=micro_batch_size or len(batch),
    )
    return prepare_micro_batches(data, dp_group=dp_group, same_micro_num_in_dp=dp_group is not None)[0]


def micro_batch_losses(logits: Tensor, batch: MiniBatch, config: FSDPActorConfig, **split):
    """Yield verl's (loss, metrics) of each of the :func:`micro_batches`."""
    for micro_batch in micro_batches(batch, **split):
        yield ppo_loss(config, model_output(logits, micro_batch), micro_batch)


def gradient(batch: MiniBatch, mode: str, config: FSDPActorConfig | None = None, **split) -> Tensor:
    """The gradient that one optimizer step under ``mode`` would see, accumulated over micro-batches."""
    if is_plugin_mode(mode) and "length_divisor" not in batch.data:
        batch = batch.with_divisors(mode)
    logits = initial_logits().requires_grad_()
    for loss, _ in micro_batch_losses(logits, batch, config or make_actor_config(mode), **split):
        loss.backward()
    return logits.grad


def metrics(batch: MiniBatch, config: FSDPActorConfig, **split) -> dict[str, float]:
    """verl's metrics of the mini-batch: each micro-batch's part, summed."""
    totals: dict[str, float] = {}
    if is_plugin_mode(config.loss_agg_mode):
        batch = batch.with_divisors(config.loss_agg_mode)
    for _, parts in micro_batch_losses(initial_logits(), batch, config, **split):
        for key in ("actor/pg_loss", "actor/entropy_loss", "kl_loss"):
            totals[key] = totals.get(key, 0.0) + float(parts[key].values[0])
    return totals


def reference_loss(batch: MiniBatch, mode: str, log_probs_of: Callable[[Tensor, int], Tensor]) -> Tensor:
    """The clipped policy loss by a double loop over groups and subsets, in the paper's words.

    In each group, the mean token loss of every subset weighs its share of the group's responses; groups weigh their
    share of the mini-batch. Under ``group-token-mean`` a group is one subset. A row without tokens is in no subset, but
    it counts as one of the mini-batch. Under every other mode the summed losses of a row are divided by its divisor,
    which tests/loss/test_rules.py has by hand.

    Args:
        log_probs_of: from the tokens of a sequence and the length of its response to the (length,) log-probabilities of
            that response, in float64.
    """
    token_losses = {row: losses for row, losses in enumerate(_token_losses(batch, log_probs_of)) if len(losses)}
    if mode not in OUR_MODES:
        divisors = batch.with_divisors(mode).data["length_divisor"].double()
        return torch.stack([losses.sum() / divisors[row] for row, losses in token_losses.items()]).sum() / len(batch)
    groups: dict[str, dict[float, list[Tensor]]] = defaultdict(lambda: defaultdict(list))
    for row, losses in token_losses.items():
        subset = float(batch.data["advantages"][row].sum().sign()) if mode == "balanced" else 0.0
        groups[batch.group_ids[row]][subset].append(losses)
    total = torch.zeros((), dtype=torch.float64)
    for subsets in groups.values():
        for losses in subsets.values():
            total = total + len(losses) / len(batch) * torch.cat(losses).mean()
    return total


def _token_losses(batch: MiniBatch, log_probs_of: Callable[[Tensor, int], Tensor]) -> Iterator[Tensor]:
    """The clipped losses of each row's unmasked tokens, with verl's dual clip."""
    for ids, mask, old_log_probs, advantages in zip(*map(batch.data.__getitem__, REFERENCE_FIELDS), strict=True):
        if not mask.any():
            yield torch.empty(0)
            continue
        advantage = advantages[mask.bool()][0].double()
        ratio = torch.exp(log_probs_of(ids, len(mask)) - old_log_probs.double())
        losses = torch.maximum(-advantage * ratio, -advantage * ratio.clamp(1 - CLIP, 1 + CLIP))
        if advantage < 0:
            losses = torch.minimum(losses, -advantage * DUAL_CLIP)
        yield losses[mask.bool()]


def reference_gradient(batch: MiniBatch, mode: str) -> Tensor:
    """The gradient of :func:`reference_loss` of the table of logits."""
    logits = initial_logits(torch.float64).requires_grad_()
    log_softmax = torch.log_softmax(logits, dim=-1)
    loss = reference_loss(batch, mode, lambda ids, length: response_log_probs(log_softmax, ids, length))
    (loss + 0 * logits.sum()).backward()
    return logits.grad


def relative_error(actual: Tensor, expected: Tensor) -> float:
    return float((actual.double() - expected).norm() / expected.norm())
