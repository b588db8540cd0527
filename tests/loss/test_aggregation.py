"""The mathematics of the aggregations, against double loops and against what must not matter."""

import math
import subprocess
import sys
from collections.abc import Callable, Hashable
from dataclasses import replace

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from pytest import approx
from torch import Tensor

from balanced_agg.loss.aggregation import aggregate, length_divisors
from balanced_agg.loss.rules import AGGREGATIONS
from tests.batches import (
    JUNK,
    MODES,
    SOME_POSITIONS,
    WIDTH,
    Batch,
    Groups,
    batches,
    divisors_of,
    loss_and_gradient,
    make_batch,
    seeds,
    shuffled,
    sign,
    some_groups,
    with_junk,
)

every_mode = pytest.mark.parametrize("mode", MODES)


# ---- the definitions, by double loops


def reference(batch: Batch, subset_of_row: Callable[[int], Hashable]) -> float:
    """Token mean of each subset of the responses with tokens, times its number of them, over all rows."""
    loss = 0.0
    unmasked_losses = batch.unmasked_losses()
    for subset in {subset_of_row(row) for row in range(len(batch))}:
        responses, token_losses = 0, []
        for row in range(len(batch)):
            if subset_of_row(row) == subset and unmasked_losses[row]:
                responses += 1
                token_losses += unmasked_losses[row]
        if responses:
            loss += responses * sum(token_losses) / len(token_losses)
    return loss / len(batch)


SUBSETS: dict[str, Callable[[Batch], Callable[[int], Hashable]]] = {
    "balanced": lambda batch: lambda row: (batch.group_ids[row], sign(batch.row_advantages[row])),
    "group-token-mean": lambda batch: lambda row: batch.group_ids[row],
    "seq-mean-token-mean": lambda batch: lambda row: row,
    "token-mean": lambda batch: lambda row: "all rows",
}


@pytest.mark.parametrize("mode", SUBSETS)
@given(batch=batches())
def test_loss_equals_the_double_loop(mode: str, batch: Batch):
    loss, gradient = loss_and_gradient(mode, batch)
    assert loss == approx(reference(batch, SUBSETS[mode](batch)), rel=1e-6, abs=1e-6)
    # The loss is linear in the token losses, so its gradient gives it back.
    assert loss == approx((gradient * batch.losses)[batch.mask.bool()].sum().item(), rel=1e-6, abs=1e-6)


def test_balanced_equals_hand_arithmetic():
    # Right: 1 and 3 tokens. Wrong: 6 tokens. Loss of a token: 1 if right, 10 if wrong.
    batch = make_batch([[(1.0, range(1)), (1.0, range(3)), (-1.0, range(6))]])
    assert length_divisors("balanced", batch.group_ids, batch.advantages, batch.mask).tolist() == [2, 2, 6]
    batch = replace(batch, losses=torch.tensor([[1.0], [1.0], [10.0]]).expand(3, WIDTH))
    assert loss_and_gradient("balanced", batch)[0] == approx((2 / 3) * 1 + (1 / 3) * 10)


@pytest.mark.parametrize("mode", ["token-mean", "seq-mean-token-mean"])
def test_verls_own_modes_equal_verls_agg_loss(mode: str):
    from verl.trainer.ppo.core_algos import agg_loss

    @given(batch=batches(SOME_POSITIONS, padding_rows=0, clean=True), dp_size=st.integers(1, 4))
    def check(batch: Batch, dp_size: int):
        divisors = length_divisors(mode, batch.group_ids, batch.advantages, batch.mask)
        ours = aggregate(batch.losses, batch.mask, divisors, len(batch), dp_size)
        verls = agg_loss(batch.losses, batch.mask, mode, dp_size, batch.mask.sum(), len(batch))
        assert ours.item() == approx(verls.item(), rel=1e-6, abs=1e-6)

    check()


# ---- where the aggregations coincide


@given(data=st.data())
def test_balanced_is_sequence_aggregation_where_a_group_has_equal_lengths(data: st.DataObject):
    groups = []
    for _ in range(data.draw(st.integers(1, 4))):
        length = data.draw(st.integers(1, WIDTH))
        same_length = [tokens for tokens in SOME_POSITIONS if len(tokens) == length]
        groups += data.draw(some_groups([-1.0, 0.0, 2.0], same_length, most=1))
    batch = make_batch(groups)
    balanced, sequence = (
        length_divisors(mode, batch.group_ids, batch.advantages, batch.mask)
        for mode in ("balanced", "seq-mean-token-mean")
    )
    assert torch.equal(balanced, sequence)


@given(data=st.data())
def test_balanced_is_group_token_aggregation_where_both_signs_have_the_same_mean_length(data: st.DataObject):
    groups = []
    for _ in range(data.draw(st.integers(1, 4))):
        mean = data.draw(st.integers(1, WIDTH))
        spread = st.integers(0, min(mean - 1, WIDTH - mean))
        groups.append(
            [
                (advantage, range(length))
                for advantage in (-1.0, 2.0)
                for d in data.draw(st.lists(spread, min_size=1, max_size=3))
                for length in (mean - d, mean + d)
            ]
        )
    batch = make_batch(groups)
    balanced, token = (
        length_divisors(mode, batch.group_ids, batch.advantages, batch.mask)
        for mode in ("balanced", "group-token-mean")
    )
    assert torch.equal(balanced, token)


@given(batch=batches())
def test_a_one_sided_group_is_aggregated_by_tokens(batch: Batch):
    positive = replace(batch, advantages=torch.where(batch.mask.bool(), 1.0, batch.advantages))
    assert loss_and_gradient("balanced", positive)[0] == loss_and_gradient("group-token-mean", positive)[0]


# ---- what balancing is for


def at_ratio_one(rewarded: Groups) -> Batch:
    """Groups of (reward, positions), GRPO-normalised, with the policy loss at ratio 1: -A at every token."""
    groups = []
    for group in rewarded:
        rewards = torch.tensor([reward for reward, _ in group], dtype=torch.float64)
        advantages = (rewards - rewards.mean()) / (rewards.std() + 1e-6) if len(group) > 1 else 0 * rewards
        groups.append([(a, tokens) for a, (_, tokens) in zip(advantages.tolist(), group, strict=True)])
    batch = make_batch(groups)
    return replace(batch, losses=-torch.tensor(batch.row_advantages).double().unsqueeze(-1) * batch.mask)


@pytest.mark.parametrize("mode", ["balanced", "seq-mean-token-mean"])
@given(rewarded=some_groups([0.0, 1.0], SOME_POSITIONS))
def test_binary_rewards_at_ratio_one_give_a_loss_of_zero(mode: str, rewarded: Groups):
    assert loss_and_gradient(mode, at_ratio_one(rewarded))[0] == approx(0, abs=1e-6)


@pytest.mark.parametrize("mode", ["token-mean", "group-token-mean"])
@given(rewarded=some_groups([0.0, 1.0], SOME_POSITIONS, most=1))
def test_token_aggregation_couples_sign_and_length(mode: str, rewarded: Groups):
    lengths = {reward: [len(tokens) for r, tokens in rewarded[0] if r == reward] for reward in (0, 1)}
    assume(lengths[0] and lengths[1])
    gap = sum(lengths[1]) / len(lengths[1]) - sum(lengths[0]) / len(lengths[0])
    assume(gap != 0)
    loss, _ = loss_and_gradient(mode, at_ratio_one(rewarded))
    assert abs(loss) > 1e-3
    assert (loss < 0) == (gap > 0)


@pytest.mark.parametrize(("mode", "changes"), [("balanced", False), ("group-token-mean", True)])
@given(
    right=st.lists(st.sampled_from(SOME_POSITIONS), min_size=1, max_size=4),
    wrong=st.lists(st.sampled_from(SOME_POSITIONS), min_size=1, max_size=4),
    times=st.integers(2, 4),
)
def test_longer_responses_of_one_sign_shift_mass_only_under_token_aggregation(
    mode: str, changes: bool, right: list, wrong: list, times: int
):
    def mass_ratio(times: int) -> float:
        stretched = [[times * t + k for t in tokens for k in range(times)] for tokens in wrong]
        group = [(0.5, tokens) for tokens in right] + [(-2.0, tokens) for tokens in stretched]
        batch = make_batch([group], width=times * WIDTH)
        _, gradient = loss_and_gradient(mode, batch)
        mass = gradient * batch.advantages
        return (mass.clamp(max=0).sum() / mass.clamp(min=0).sum()).item()

    assert mass_ratio(times) == approx(mass_ratio(1) * (times if changes else 1), rel=1e-6)


# ---- what must not matter


@every_mode
@given(batch=batches(), seed=seeds)
def test_row_order_does_not_matter(mode: str, batch: Batch, seed: int):
    order = shuffled(len(batch), seed)
    loss, gradient = loss_and_gradient(mode, batch)
    shuffled_loss, shuffled_gradient = loss_and_gradient(mode, batch.select(order))
    assert shuffled_loss == approx(loss, rel=1e-6, abs=1e-6)
    # Sums of other numbers than whole ones depend on their order in the last bit, before they are rounded to float32.
    torch.testing.assert_close(shuffled_gradient, gradient[order], rtol=2e-7, atol=0)


@every_mode
@given(batch=batches(), left=st.integers(0, 5), right=st.integers(0, 5), junk=st.sampled_from(JUNK))
def test_padding_width_does_not_matter(mode: str, batch: Batch, left: int, right: int, junk: float):
    def pad(matrix: Tensor, value: float) -> Tensor:
        return torch.nn.functional.pad(matrix, (left, right), value=value)

    wider = replace(
        batch, advantages=pad(batch.advantages, junk), mask=pad(batch.mask, 0), losses=pad(batch.losses, junk)
    )
    loss, gradient = loss_and_gradient(mode, batch)
    wider_loss, wider_gradient = loss_and_gradient(mode, wider)
    assert wider_loss == approx(loss, rel=1e-12, abs=1e-12)
    assert torch.equal(wider_gradient, pad(gradient, 0))


@every_mode
@given(batch=batches(), ranks=st.integers(1, 4), micro_batches=st.integers(1, 4), seed=seeds)
def test_split_into_micro_batches_and_ranks_does_not_matter(
    mode: str, batch: Batch, ranks: int, micro_batches: int, seed: int
):
    # Parts of any size, empty ones included, as a token budget makes them.
    generator = torch.Generator().manual_seed(seed)
    part_of_row = torch.randint(ranks * micro_batches, (len(batch),), generator=generator)
    divisors = divisors_of(mode, batch)
    losses = batch.losses.clone().requires_grad_()
    total = torch.zeros((), dtype=torch.float64)
    for part in range(ranks * micro_batches):
        rows = part_of_row == part
        total = total + aggregate(losses[rows], batch.mask[rows], divisors[rows], len(batch), ranks)
    (total / ranks).backward()

    loss, gradient = loss_and_gradient(mode, batch)
    assert total.item() / ranks == approx(loss, rel=1e-12, abs=1e-12)
    torch.testing.assert_close(losses.grad, gradient, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode != "prompt-mean"])  # that one knows N
@given(batch=batches())
def test_rows_without_tokens_do_not_matter(mode: str, batch: Batch):
    with_tokens = batch.mask.bool().any(dim=-1)
    kept = with_tokens.nonzero().flatten().tolist()
    loss, gradient = loss_and_gradient(mode, batch)
    kept_loss, kept_gradient = loss_and_gradient(mode, batch.select(kept), total=len(batch))
    assert kept_loss == approx(loss, rel=1e-12, abs=1e-12)
    assert torch.equal(gradient[kept], kept_gradient)
    assert not gradient[~with_tokens].any()
    divisors = divisors_of(mode, batch)
    assert (divisors[~with_tokens] == 1).all()


@every_mode
@given(batch=batches(clean=True), junk=st.tuples(st.sampled_from(JUNK), st.sampled_from(JUNK)))
def test_masked_values_never_reach_loss_or_gradient(mode: str, batch: Batch, junk: tuple[float, float]):
    clean_loss, clean_gradient = loss_and_gradient(mode, with_junk(batch, 0.0, 0.0))
    loss, gradient = loss_and_gradient(mode, with_junk(batch, *junk))
    assert math.isfinite(loss)
    assert loss == clean_loss
    assert torch.equal(gradient, clean_gradient)
    assert not gradient[~batch.mask.bool()].any()


@every_mode
@given(batch=batches(), junk=st.sampled_from(JUNK))
def test_a_batch_without_tokens_gives_zero_loss_and_gradient(mode: str, batch: Batch, junk: float):
    masked = with_junk(replace(batch, mask=torch.zeros_like(batch.mask)), junk, junk)
    loss, gradient = loss_and_gradient(mode, masked)
    assert loss == 0
    assert not gradient.any()


@every_mode
def test_a_response_of_no_width_has_no_tokens(mode: str):
    empty = torch.zeros(3, 0)
    assert length_divisors(mode, [0, 0, 1], empty, empty, response_budget=8).tolist() == [1, 1, 1]


@pytest.mark.parametrize("mode", [*SUBSETS, "prompt-mean"])
def test_many_tokens_give_the_divisors_of_few(mode: str):
    # Wide enough that sums go through the rows in several blocks.
    repeats = 4096
    signs, lengths = [1.0, -1.0, -1.0, 0.0, 1.0], [1, 6, 3, 2, 5]
    group = [(s, range(length)) for s, length in zip(signs, lengths, strict=True)]
    batch = make_batch([group] * 9)
    assert len(batch) * WIDTH * repeats > 2**20
    small, large = (
        length_divisors(
            mode,
            batch.group_ids,
            batch.advantages.repeat_interleave(times, dim=-1),
            batch.mask.repeat_interleave(times, dim=-1),
        )
        for times in (1, repeats)
    )
    assert torch.equal(large, small * repeats)


# ---- what is refused


@given(batch=batches(padding_rows=1), data=st.data())
def test_balanced_refuses_a_response_with_advantages_of_both_signs(batch: Batch, data: st.DataObject):
    several = (batch.mask.bool().sum(dim=-1) > 1).nonzero().flatten().tolist()
    assume(several)
    row = data.draw(st.sampled_from(several))
    first, *_, last = batch.mask[row].nonzero().flatten().tolist()
    advantages = batch.advantages.clone()
    advantages[row, first], advantages[row, last] = 0.1, -0.1
    with pytest.raises(ValueError, match=rf"row {row}\).*algorithm\.adv_estimator"):
        length_divisors("balanced", batch.group_ids, advantages, batch.mask)
    length_divisors("group-token-mean", batch.group_ids, advantages, batch.mask)


@given(batch=batches(), data=st.data())
def test_balanced_refuses_unmasked_nan_advantages(batch: Batch, data: st.DataObject):
    unmasked = batch.mask.nonzero().tolist()
    assume(unmasked)
    row, token = data.draw(st.sampled_from(unmasked))
    advantages = batch.advantages.clone()
    advantages[row, token] = math.nan
    with pytest.raises(ValueError, match="NaN"):
        length_divisors("balanced", batch.group_ids, advantages, batch.mask)


def test_an_unknown_mode_is_refused_with_the_known_ones_named():
    with pytest.raises(ValueError, match="'token-median'.*" + ", ".join(AGGREGATIONS.values())):
        length_divisors("token-median", [0], torch.ones(1, 2), torch.ones(1, 2))


@every_mode
@pytest.mark.parametrize(
    ("ids", "advantages", "mask"),
    [
        (2, (3, 4), (3, 4)),
        (3, (3, 5), (3, 4)),
        (3, (2, 4), (3, 4)),
        (3, (3,), (3,)),
        (3, (3, 4, 1), (3, 4, 1)),
    ],
)
def test_shapes_that_disagree_are_refused(mode: str, ids: int, advantages: tuple, mask: tuple):
    with pytest.raises(ValueError, match="rows"):
        length_divisors(mode, list(range(ids)), torch.ones(advantages), torch.ones(mask), response_budget=8)


def test_importing_the_mathematics_pulls_in_neither_verl_nor_vllm_nor_ray():
    code = "import sys, balanced_agg.loss.aggregation; print({'verl', 'vllm', 'ray'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"


@pytest.mark.parametrize("shape", [(3, 1), (2,), ()])
def test_divisors_that_are_not_one_a_row_are_refused(shape):
    with pytest.raises(ValueError, match="length_divisor"):
        aggregate(torch.ones(3, 4), torch.ones(3, 4), torch.ones(shape), 3)
