"""verl's own ``_balance_batch``, with and without the key that keeps groups whole."""

from collections.abc import Sequence
from types import SimpleNamespace

import pytest
import torch
from omegaconf import OmegaConf
from transfer_queue import KVBatchMeta
from verl.trainer.ppo import padding_utils
from verl.trainer.ppo.v1.trainer_base import PPOTrainer

from balanced_agg.plugin.loss.updates import steps_of
from balanced_agg.plugin.loss.whole_groups import cut_groups
from balanced_agg.runs import verl_keys

RANKS, PROMPTS_A_STEP, RESPONSES = 2, 2, 4


@pytest.fixture(autouse=True)
def queue(monkeypatch):
    row = {name: torch.ones(2) for name in ("input_ids", "attention_mask", "responses", "position_ids")}
    made = SimpleNamespace(kv_batch_get=lambda **_: [row], kv_batch_put=lambda **_: None)
    monkeypatch.setattr(padding_utils, "tq", made)


class Trainer(PPOTrainer):
    """verl's, without all that its making would start."""

    def __init__(self, **attributes) -> None:
        vars(self).update(attributes)

    def on_step_end(self) -> None: ...

    def on_sample_end(self) -> None: ...


def make_trainer(**of_balanced_agg: bool) -> Trainer:
    actor = {"ppo_mini_batch_size": PROMPTS_A_STEP, "shuffle": False}
    return Trainer(
        config=OmegaConf.create(
            {
                "actor_rollout_ref": {"actor": actor, "rollout": {"n": RESPONSES}},
                "trainer": {"critic_warmup": 0},
                **({"balanced_agg": of_balanced_agg} if of_balanced_agg else {}),
            }
        ),
        actor_rollout_wg=SimpleNamespace(_dispatch_info={"actor": list(range(RANKS))}),
        tokenizer=SimpleNamespace(eos_token_id=0),
        use_critic=False,
        global_steps=1,
    )


def balanced(trainer: Trainer, group_sizes: Sequence[int]) -> tuple[KVBatchMeta, dict[str, float]]:
    """A batch of groups with these numbers of rows, a session each, after verl's balancing."""
    generator = torch.Generator().manual_seed(0)
    keys = [f"group{group}_{session}_0" for group, size in enumerate(group_sizes) for session in range(size)]
    lengths = torch.randint(130, 2000, (len(keys),), generator=generator).tolist()
    tags = [{"seq_len": length} for length in lengths]
    batch = KVBatchMeta(keys=keys, tags=tags, partition_id="train", fields=None, extra_info={})
    metrics: dict[str, float] = {}
    return trainer._balance_batch(batch, metrics=metrics), metrics


def cut(trainer: Trainer, batch: KVBatchMeta) -> int:
    parsed = map(verl_keys.parse, batch.keys)
    placed = zip(parsed, batch.keys, steps_of(trainer, len(batch.keys)).tolist(), strict=True)
    groups, steps = zip(
        *((key.group, step) for key, text, step in placed if not verl_keys.is_padding(text)), strict=True
    )
    return cut_groups(groups, steps)


def test_without_the_key_rows_are_where_verl_puts_them():
    plain = balanced(make_trainer(), [RESPONSES] * 8)
    off = balanced(make_trainer(whole_groups=False), [RESPONSES] * 8)
    assert (plain[0].keys, plain[1]) == (off[0].keys, off[1])
    assert cut(make_trainer(), plain[0]) > 0


@pytest.mark.parametrize(
    ("sizes", "rows"),
    [
        ([4] * 8, 32),
        ([4, 3, 4, 1, 4, 4, 2, 4], 32),  # failed responses: verl's padding is room enough
        ([3, 3, 3, 3, 3], 24),  # 15 rows are two steps of 8, but five groups of 3 need three
        ([9, 12, 5], 32),  # responses of several rows: a group larger than an optimizer step, and others
    ],
)
def test_with_the_key_every_optimizer_step_has_whole_groups(sizes, rows):
    trainer = make_trainer(whole_groups=True)
    batch, metrics = balanced(trainer, sizes)
    assert len(batch.keys) == rows
    real = verl_keys.without_padding(batch)
    assert sorted(real) == sorted(f"group{g}_{s}_0" for g, size in enumerate(sizes) for s in range(size))
    assert cut(trainer, batch) == sum(size > PROMPTS_A_STEP * RESPONSES for size in sizes)
    if set(sizes) == {RESPONSES}:  # else a gap may be filled by a later group
        step_of_group = {}
        for key, step in zip(batch.keys, steps_of(trainer, rows).tolist(), strict=True):
            step_of_group[verl_keys.parse(key).group] = step
        assert [step_of_group[f"group{group}"] for group in range(len(sizes))] == [0, 0, 1, 1, 2, 2, 3, 3]
    of_rank = [sum(tag["seq_len"] for tag in batch.tags[start : start + rows // 2]) for start in (0, rows // 2)]
    assert metrics["global_seqlen/balanced_min"] == min(of_rank)
    assert metrics["global_seqlen/balanced_max"] == max(of_rank)
