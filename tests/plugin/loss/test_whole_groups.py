"""Optimizer steps of whole groups: what holds for any batch, and the balance beside verl's own partition."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tensordict import TensorDict
from transfer_queue import KVBatchMeta
from verl.utils import tensordict_utils as tu
from verl.utils.seqlen_balancing import calculate_workload, get_seqlen_balanced_partitions

from balanced_agg.plugin.loss.whole_groups import cut_groups, step_of_rows, steps_needed, whole_group_order


@dataclass
class Batch:
    group_ids: list[str]
    seq_lens: list[int]
    is_padding: list[bool]
    ranks: int
    step_rows: int

    @property
    def steps(self) -> int:
        return len(self.group_ids) // self.step_rows

    def order(self) -> list[int]:
        return whole_group_order(self.group_ids, self.seq_lens, self.is_padding, self.ranks, self.step_rows)

    def step_of_old_rows(self) -> np.ndarray:
        """(rows,) the step that each row of the batch is in after it was put in order."""
        steps = np.empty(len(self.group_ids), int)
        steps[self.order()] = step_of_rows(len(steps), self.ranks, self.step_rows)
        return steps

    def steps_of_groups(self) -> dict[str, list[int]]:
        """By group, in the order of first rows, the steps of its rows."""
        found: dict[str, list[int]] = {}
        for group, step, padding in zip(self.group_ids, self.step_of_old_rows(), self.is_padding, strict=True):
            if not padding:
                found.setdefault(group, []).append(int(step))
        return found


def batch_of(group_ids: list[str], ranks: int, step_rows: int, spare_steps: int = 0) -> Batch:
    """These rows, of random lengths, and as many padding rows as the steps have room for."""
    padding = (steps_needed(group_ids, step_rows) + spare_steps) * step_rows - len(group_ids)
    lengths = np.random.default_rng(0).integers(100, 2000, len(group_ids)).tolist()
    return Batch(
        group_ids + ["pad"] * padding,
        lengths + [128] * padding,
        [False] * len(group_ids) + [True] * padding,
        ranks,
        step_rows,
    )


@st.composite
def batches(draw: st.DrawFn, equal: bool = False) -> Batch:
    """Groups of one size that fits in a step, or each of its own, also larger; their rows side by side or scattered."""
    ranks, part = draw(st.integers(1, 4)), draw(st.integers(1, 6))
    size = st.integers(1, ranks * part if equal else 40)
    count = draw(st.integers(1, 20))
    sizes = [draw(size)] * count if equal else [draw(size) for _ in range(count)]
    rows = [str(group) for group, size in enumerate(sizes) for _ in range(size)]
    if draw(st.booleans()):
        draw(st.randoms(use_true_random=False)).shuffle(rows)
    return batch_of(rows, ranks, ranks * part, draw(st.integers(0, 2)))


@given(batches())
def test_the_order_is_a_permutation(batch):
    assert sorted(batch.order()) == list(range(len(batch.group_ids)))


@given(batches())
def test_steps_are_what_verl_cuts_its_ranks_parts_into(batch):
    rows = len(batch.group_ids)
    steps = step_of_rows(rows, batch.ranks, batch.step_rows)
    keys = [str(row) for row in range(rows)]
    for part in KVBatchMeta(keys=keys, tags=[{} for _ in keys], partition_id="train").chunk(batch.ranks):
        data = TensorDict({"row": torch.tensor([int(key) for key in part.keys])}, batch_size=len(part))
        cuts = tu.make_iterator(data, batch.step_rows // batch.ranks, epochs=1, dataloader_kwargs={"shuffle": False})
        assert [set(steps[cut["row"].flatten().tolist()]) for cut in cuts] == [{step} for step in range(batch.steps)]


@given(batches())
def test_a_group_is_whole_unless_it_is_larger_than_a_step(batch):
    """And then it lies in as few consecutive steps as its rows need."""
    found = batch.steps_of_groups()
    for steps in found.values():
        needed = -(-len(steps) // batch.step_rows)
        assert sorted(set(steps)) == list(range(min(steps), min(steps) + needed))
    real = ~np.array(batch.is_padding)
    cut = cut_groups(np.array(batch.group_ids)[real].tolist(), batch.step_of_old_rows()[real].tolist())
    assert cut == sum(len(steps) > batch.step_rows for steps in found.values())


@given(batches(equal=True))
def test_groups_of_one_size_keep_their_order_in_the_least_number_of_steps(batch):
    found = list(batch.steps_of_groups().values())
    of_real_rows = [group for group, padding in zip(batch.group_ids, batch.is_padding, strict=True) if not padding]
    assert steps_needed(of_real_rows, batch.step_rows) == -(-len(found) // (batch.step_rows // len(found[0])))
    assert found == sorted(found)


def test_a_later_group_fills_the_room_that_a_larger_one_leaves():
    batch = batch_of([*"aaaabbbbbccddd"], ranks=2, step_rows=8)
    assert batch.steps_of_groups() == {"a": [0] * 4, "b": [1] * 5, "c": [0] * 2, "d": [1] * 3}
    larger_than_a_step = batch_of([*"aaaaaaaaaabbbbbb"], ranks=2, step_rows=8)
    assert larger_than_a_step.steps_of_groups() == {"a": [0] * 8 + [1] * 2, "b": [1] * 6}


def test_padding_is_spread_over_the_steps():
    """The 34 steps that these groups need could be 33 full ones and one of 29 rows."""
    sizes = np.random.default_rng(0).integers(16, 49, 512)
    batch = batch_of([str(group) for group, size in enumerate(sizes) for _ in range(size)], ranks=8, step_rows=512)
    steps = batch.step_of_old_rows()
    real = np.bincount(steps[~np.array(batch.is_padding)], minlength=batch.steps)
    assert len(real) == 34
    assert real.max() - real.min() < 48


def test_too_few_steps_and_parts_of_steps_are_refused():
    rows, lengths, real = ["a"] * 5 + ["b"] * 5 + ["c"] * 6, [100] * 16, [False] * 16
    with pytest.raises(ValueError, match="2 steps of 8 rows, and whole groups need 3"):
        whole_group_order(rows, lengths, real, ranks=2, step_rows=8)
    for ranks, step_rows in ((2, 12), (3, 16)):
        with pytest.raises(ValueError, match="no whole number of steps"):
            whole_group_order(rows, lengths, real, ranks, step_rows)


def test_a_batch_without_rows_has_no_steps():
    assert (steps_needed([], 8), whole_group_order([], [], [], ranks=2, step_rows=8)) == (0, [])


# Groups, their size, optimizer steps, ranks.
SHAPES = {
    "512x16": (512, 16, 16, 8),
    "128x8": (128, 8, 1, 8),
    "64x8": (64, 8, 4, 2),
    "256x16, one step": (256, 16, 1, 2),
}


def lengths_of(kind: str, rows: int, seed: int) -> np.ndarray:
    """Tokens of prompts of 100 to 400 and responses of up to 8192 (log-normal) or 4096 (uniform)."""
    rng = np.random.default_rng(seed)
    prompts = rng.integers(100, 401, rows)
    if kind == "uniform":
        return prompts + rng.integers(1, 4097, rows)
    return prompts + rng.lognormal(6.5, 0.8, rows).clip(1, 8192).astype(int)


def verls_order(seq_lens: np.ndarray, ranks: int) -> list[int]:
    """As PPOTrainer._balance_batch has it."""
    partitions = get_seqlen_balanced_partitions(calculate_workload(seq_lens).tolist(), ranks, equal_size=True)
    return [row for part in partitions for row in part]


def slowest_rank(loads: np.ndarray, order: list[int], ranks: int, steps: int) -> tuple[float, float]:
    """What the rank with most has over the mean of all: of the batch, and of each step, which waits for its slowest."""
    of_ranks = loads[order].reshape(ranks, steps, -1).sum(axis=-1)
    of_batch = of_ranks.sum(axis=1)
    return of_batch.max() / of_batch.mean(), of_ranks.max(axis=0).sum() / of_ranks.mean(axis=0).sum()


@pytest.mark.parametrize("kind", ["log-normal", "uniform"])
@pytest.mark.parametrize("shape", SHAPES)
def test_ranks_are_as_balanced_as_under_verl_and_those_of_each_step_far_better(shape, kind):
    groups, size, steps, ranks = SHAPES[shape]
    rows = groups * size
    group_ids = [str(row // size) for row in range(rows)]
    step_of = step_of_rows(rows, ranks, rows // steps).tolist()
    for seed in range(3):
        seq_lens = lengths_of(kind, rows, seed)
        ours = whole_group_order(group_ids, seq_lens.tolist(), [False] * rows, ranks, rows // steps)
        verls = verls_order(seq_lens, ranks)
        for loads in (seq_lens, calculate_workload(seq_lens)):
            batch, of_steps = slowest_rank(loads, ours, ranks, steps)
            verls_batch, verls_of_steps = slowest_rank(loads, verls, ranks, steps)
            assert batch < 1.001 * verls_batch
            if steps > 1:
                assert of_steps - 1 < 0.1 * (verls_of_steps - 1)
        assert cut_groups([group_ids[row] for row in ours], step_of) == 0
        if shape == "512x16":
            assert cut_groups([group_ids[row] for row in verls], step_of) > groups / 3


def test_ranks_that_get_few_rows_of_a_step_wait_little_for_each_other():
    """Four rows each: the rank with most work has 3 % more than the mean, and 60 % under verl's partition."""
    groups, size, steps, ranks = 256, 16, 16, 64
    rows = groups * size
    excess = []
    for seed in range(3):
        seq_lens = lengths_of("uniform", rows, seed)
        group_ids = [str(row // size) for row in range(rows)]
        ours = whole_group_order(group_ids, seq_lens.tolist(), [False] * rows, ranks, rows // steps)
        work = calculate_workload(seq_lens)
        excess.append(
            [slowest_rank(work, order, ranks, steps)[1] - 1 for order in (ours, verls_order(seq_lens, ranks))]
        )
    ours, verls = np.mean(excess, axis=0)
    assert ours < 0.04
    assert verls > 0.4
