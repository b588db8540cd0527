"""What verl's driver knows of an update: the batch that it has computed advantages for, and is about to train on.

A step of verl's trainer has one update, or several where weights are synchronized less often (`parameter_sync_step`).
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor

from balanced_agg.loss.diagnostics import aggregation_metrics, step_metrics
from balanced_agg.loss.responses import Rows
from balanced_agg.loss.rules import RULES, Rule, rule_of
from balanced_agg.plugin.loss.whole_groups import step_of_rows, steps_needed, whole_group_order
from balanced_agg.runs import verl_keys


@dataclass(frozen=True)
class Update:
    """Attributes:
    rows: of the batch, without verl's padding.
    padding: (all rows,) which ones verl added so that the batch can be divided among ranks and optimizer steps.
    steps: (rows,) number of the optimizer step that a row is in; None where verl shuffles rows.
    seconds: what reading it took.
    """

    rows: Rows
    padding: Tensor
    steps: Tensor | None
    seconds: float

    def divisors(self, rule: Rule, budget: float) -> Tensor:
        """(all rows,) float32: what the tokens of each row are to be divided by where verl divides by its number of
        rows.

        verl divides an optimizer step by the rows of a mini-batch. With R rows in the batch, padding included, and S
        responses, a step is that part of the batch which has S/R responses for each of its rows.
        """
        responses = self.rows.responses(budget)
        of_rows = responses.for_rows(rule.divisors(responses), without_tokens=1.0)
        divisors = torch.ones(len(self.padding), dtype=torch.double)
        divisors[~self.padding] = of_rows * (responses.total / len(self.padding))
        return divisors.float()


def read_update(trainer: Any, batch: Any) -> Update:
    """The numbers of a batch in verl's TransferQueue that has advantages."""
    import transfer_queue as tq

    start = time.perf_counter()
    keys = verl_keys.without_padding(batch)
    fields = ["uid", "response_mask", "advantages"]
    data = tq.kv_batch_get(keys=keys, partition_id=batch.partition_id, select_fields=fields)
    group_ids = data.pop("uid").tolist()
    data = data.to_padded_tensor()
    sessions = [key.session for key in _parsed(keys)]
    rows = Rows.measured(group_ids, sessions, data["advantages"], data["response_mask"])
    padding = torch.tensor([bool(tag.get("is_padding")) for tag in batch.tags])
    steps = steps_of(trainer, len(batch.keys))
    return Update(rows, padding, None if steps is None else steps[~padding], time.perf_counter() - start)


def steps_of(trainer: Any, rows: int) -> Tensor | None:
    """(rows,) the optimizer step of each row of a batch that verl has put in order; None where it shuffles them."""
    actor = trainer.config.actor_rollout_ref.actor
    if actor.shuffle:
        return None
    return torch.as_tensor(step_of_rows(rows, ranks_of(trainer), rows_a_step(trainer.config)))


def ranks_of(trainer: Any) -> int:
    """Data-parallel ranks of the actor."""
    return max(trainer.actor_rollout_wg._dispatch_info["actor"]) + 1


def rows_a_step(config: DictConfig) -> int:
    """Rows of a mini-batch over all ranks."""
    return config.actor_rollout_ref.actor.ppo_mini_batch_size * config.actor_rollout_ref.rollout.n


def budget_of(config: DictConfig) -> float:
    """The longest response, in tokens: what Dr. GRPO divides by."""
    return config.actor_rollout_ref.actor.loss_scale_factor or config.data.max_response_length


def metrics_of(updates: Sequence[Update], config: DictConfig) -> dict[str, float]:
    """The measures of a step's updates together (loss/diagnostics.py), ``aggregation/*``."""
    start = time.perf_counter()
    rows = Rows.joined([update.rows for update in updates])
    responses = rows.responses(budget_of(config))
    try:
        rule = rule_of(config.actor_rollout_ref.actor.loss_agg_mode)
    except ValueError:  # a mode of a later verl
        rule = None
    further = [rule] if rule and rule.name not in RULES else []
    found = aggregation_metrics(responses, [*RULES.values(), *further])
    if rule and all(update.steps is not None for update in updates):
        first, steps = 0, []
        for update in updates:
            steps.append(update.steps + first)
            first += int(update.steps.max()) + 1
        found |= step_metrics(rows, responses, rule, torch.cat(steps))
    seconds = time.perf_counter() - start + sum(update.seconds for update in updates)
    return {f"aggregation/{name}": value for name, value in found.items()} | {"timing_s/aggregation_metrics": seconds}


def keeps_groups_whole(config: DictConfig) -> bool:
    return bool((config.get("balanced_agg") or {}).get("whole_groups"))


def deal_whole_groups(trainer: Any, batch: Any, sampled: Sequence[str], metrics: dict[str, float], prefix: str) -> Any:
    """Reorder a batch that verl has padded and balanced, so that each optimizer step has whole groups.

    Groups of unequal size may need more optimizer steps than their rows fill: these get padding rows of verl's.

    Args:
        sampled: the keys before verl balanced them, in the order in which rollouts were finished: groups stay in it.
        metrics: those of verl's balance over ranks, which become those of the new order.
        prefix: of their names.
    """
    from verl.trainer.ppo.padding_utils import upsample_batch_to_divisible_size
    from verl.utils.seqlen_balancing import log_seqlen_unbalance

    ranks, step_rows = ranks_of(trainer), rows_a_step(trainer.config)
    groups = [key.group for key in _parsed(verl_keys.without_padding(batch))]
    needed = step_rows * steps_needed(groups, step_rows)
    if needed > len(batch.keys):
        multiple = trainer._get_required_batch_multiple(ranks)
        needed = -(-needed // multiple) * multiple
        batch = upsample_batch_to_divisible_size(batch, needed, trainer.tokenizer.eos_token_id)
    place = {key: number for number, key in enumerate(sampled)}
    batch.reorder(sorted(range(len(batch.keys)), key=lambda row: place.get(batch.keys[row], len(place))))
    lengths = [tag["seq_len"] for tag in batch.tags]
    padding = [bool(tag.get("is_padding")) for tag in batch.tags]
    order = whole_group_order([key.group for key in _parsed(batch.keys)], lengths, padding, ranks, step_rows)
    of_rank = len(order) // ranks
    partitions = [order[first : first + of_rank] for first in range(0, len(order), of_rank)]
    metrics.update(log_seqlen_unbalance(lengths, partitions, prefix))
    batch.reorder(order)
    return batch


def _parsed(keys: Sequence[str]) -> list[verl_keys.Key]:
    """The parts of verl's keys; a key of another trainer's form is a response and a group of its own."""
    return [verl_keys.parse(key) or verl_keys.Key(key, key, 0) for key in keys]
