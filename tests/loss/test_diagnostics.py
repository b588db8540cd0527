"""The diagnostics are what they say: loops over responses, verl's own losses, and the paper's statements."""

import math
import subprocess
import sys
from pathlib import Path
from statistics import mean, pstdev

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from pytest import approx

from balanced_agg.loss.aggregation import aggregate, length_divisors
from balanced_agg.loss.diagnostics import aggregation_metrics, step_metrics
from balanced_agg.loss.responses import Rows
from balanced_agg.loss.rules import AGGREGATIONS, is_plugin_mode, rule_of

BUDGET = 64
# A response as the strategies draw it: its advantage and its length.
Response = tuple[float, int]

every_aggregation = pytest.mark.parametrize("aggregation", AGGREGATIONS)


def measure(groups: list[list[Response]], budget: int = BUDGET) -> dict[str, float]:
    rows = [(number, *response) for number, group in enumerate(groups) for response in group]
    ids, advantages, lengths = zip(*rows, strict=True)
    return metrics_of_rows(ids, lengths, advantages, budget)


def metrics_of_rows(ids, lengths, advantages, budget: int = BUDGET) -> dict[str, float]:
    lengths, advantages = torch.tensor(lengths), torch.tensor(advantages, dtype=torch.double)
    return aggregation_metrics(Rows.of_lengths(ids, None, lengths, advantages).responses(budget))


def grpo(group: list[tuple[int, int]]) -> list[Response]:
    """Responses given as (reward, length) with GRPO's advantages: reward minus mean, over standard deviation."""
    rewards = [float(reward) for reward, _ in group]
    deviation = pstdev(rewards) or 1.0
    return [((reward - mean(rewards)) / deviation, length) for reward, length in group]


def lengths_of(low: int = 0) -> st.SearchStrategy[int]:
    return st.integers(low, BUDGET)


some_groups = st.lists(
    st.lists(st.tuples(st.sampled_from([-1.5, -0.5, 0.0, 0.5, 2.0]), lengths_of()), min_size=1, max_size=6),
    min_size=1,
    max_size=4,
)


@st.composite
def mixed_group(draw: st.DrawFn) -> list[Response]:
    """Binary rewards, both among them, every response with tokens."""
    rewards = draw(st.permutations([1, 0, *draw(st.lists(st.integers(0, 1), max_size=6))]))
    return grpo([(reward, draw(lengths_of(1))) for reward in rewards])


mixed_groups = st.lists(mixed_group(), min_size=1, max_size=4)


# ---- hand arithmetic

# One group: right responses of 10 and 30 tokens, wrong ones of 40 and 80. Another without a wrong response.
HAND = [[(1.0, 10), (1.0, 30), (-1.0, 40), (-1.0, 80)], [(0.0, 50), (0.0, 70)]]


def test_lengths_and_signs_by_hand():
    found = measure(HAND)
    assert found["positive_length"] == 20
    assert found["negative_length"] == 60
    assert found["length_gap"] == found["length_gap_within_group"] == approx((20 - 60) / 40)
    assert found["mixed_groups"] == 0.5
    # Deviations from the means 40 and 60: 30, 10, 0, 40 and 10, 10.
    assert found["within_group_length_cv"] == approx((math.sqrt((900 + 100 + 1600) / 4) / 40 + 10 / 60) / 2)


@pytest.mark.parametrize(
    ("aggregation", "positive_share", "drift", "effective", "long", "long_within"),
    [
        # D = 20, 20, 60, 60: masses .5, 1.5, 2/3, 4/3
        ("balanced", 2 / 4, 0, 16 / (0.25 + 2.25 + 4 / 9 + 16 / 9), 20 / 60, 1),
        # D = 40: masses .25, .75, 1, 2, so the loss is (3 - 1) / 6
        ("token", 1 / 4, 2 / 6, 16 / (0.0625 + 0.5625 + 1 + 4), 1, 1),
        # D = 280 / 6 of the whole batch: masses 3/14, 9/14, 12/14, 24/14
        ("batch_token", 1 / 4, 24 / 14 / 6, 48**2 / (9 + 81 + 144 + 576), 1, 1),
        # D = the own length: masses 1; a quarter of four is the longest or the shortest response
        ("sequence", 2 / 4, 0, 4, 10 / 80, (10 / 30 + 40 / 80) / 2),
        # D = 64: masses 10, 30, 40, 80 in 64ths
        ("dr_grpo", 1 / 4, 80 / 64 / 6, 160**2 / (100 + 900 + 1600 + 6400), 1, 1),
    ],
)
def test_measures_of_each_aggregation_by_hand(aggregation, positive_share, drift, effective, long, long_within):
    found = measure(HAND)
    assert found[f"{aggregation}/positive_share"] == approx(positive_share)
    assert found[f"{aggregation}/drift"] == approx(drift, abs=1e-12)
    assert found[f"{aggregation}/effective_sequences"] == approx(effective)
    assert found[f"{aggregation}/long_token_weight"] == approx(long)
    assert found[f"{aggregation}/long_token_weight_within_sign"] == approx(long_within)


def test_a_quarter_of_five_is_two_and_whoever_is_as_long_as_its_last():
    # The longest two have 9 and 7 tokens, and another has 7; the shortest two have 1 and 3.
    found = measure([[(1.0, length) for length in (9, 7, 7, 3, 1)]])
    assert found["sequence/long_token_weight"] == approx((3 / 23) / (2 / 4))


# ---- what the numbers mean, by the real losses


def matrices(groups: list[list[Response]]) -> tuple[list[int], torch.Tensor, torch.Tensor]:
    rows = [(number, *response) for number, group in enumerate(groups) for response in group]
    mask = torch.arange(BUDGET) < torch.tensor([length for *_, length in rows])[:, None]
    advantages = torch.tensor([advantage for _, advantage, _ in rows], dtype=torch.float64)[:, None] * mask
    return [number for number, *_ in rows], advantages, mask


def on_policy_loss(aggregation: str, groups: list[list[Response]]) -> tuple[float, torch.Tensor]:
    """The loss at ratio 1 and its gradient in the ratio of every token, by the code that trains."""
    from verl.trainer.ppo.core_algos import agg_loss

    ids, advantages, mask = matrices(groups)
    ratios = torch.ones_like(advantages, requires_grad=True)
    losses, rows = -advantages * ratios, len(ids)
    mode = AGGREGATIONS[aggregation]
    if is_plugin_mode(mode):
        loss = aggregate(losses, mask, length_divisors(mode, ids, advantages, mask, response_budget=BUDGET), rows)
    else:
        loss = agg_loss(losses, mask.double(), mode, 1, int(mask.sum()), rows, loss_scale_factor=BUDGET)
    loss.backward()
    return loss.item(), ratios.grad


@every_aggregation
@given(groups=some_groups)
def test_drift_is_the_loss_that_is_trained_with_at_ratio_one(aggregation, groups):
    # With empty responses verl's token-mean divides by the tokens of all, ours by a mean over those that have some.
    assume(aggregation != "batch_token" or all(length for group in groups for _, length in group))
    loss, _ = on_policy_loss(aggregation, groups)
    assert measure(groups)[f"{aggregation}/drift"] == approx(loss, abs=1e-6)


@every_aggregation
@given(groups=some_groups)
def test_shares_are_those_of_the_gradient(aggregation, groups):
    _, gradient = on_policy_loss(aggregation, groups)
    mass = gradient.abs().sum(dim=-1)
    found = measure(groups)
    if not mass.sum():
        assert f"{aggregation}/positive_share" not in found
        return
    positive = torch.tensor([advantage > 0 for group in groups for advantage, _ in group])
    assert found[f"{aggregation}/positive_share"] == approx(float(mass[positive].sum() / mass.sum()), abs=1e-6)
    assert found[f"{aggregation}/effective_sequences"] == approx(float(mass.sum() ** 2 / (mass**2).sum()), rel=1e-5)


# ---- what the paper says of the aggregations


@given(groups=mixed_groups)
def test_balanced_and_sequence_leave_half_of_the_gradient_to_either_sign_and_have_no_drift(groups):
    found = measure(groups)
    for aggregation in ("balanced", "sequence"):
        assert found[f"{aggregation}/positive_share"] == approx(0.5)
        assert found[f"{aggregation}/drift"] == approx(0, abs=1e-6)


@pytest.mark.parametrize("longer", [1, 0])
@pytest.mark.parametrize("aggregation", ["token", "batch_token", "dr_grpo"])
@given(groups=mixed_groups, factor=st.integers(2, 5))
def test_token_aggregation_moves_the_gradient_to_the_longer_sign(aggregation, longer, groups, factor):
    """In every group all responses of one sign are longer than all of the other."""
    stretched = [
        [
            (advantage, length + (factor * BUDGET if (advantage > 0) == bool(longer) else 0))
            for advantage, length in group
        ]
        for group in groups
    ]
    found = measure(stretched)
    assert found["length_gap_within_group"] * (1 if longer else -1) > 0
    assert (found[f"{aggregation}/positive_share"] > 0.5) == bool(longer)
    assert (found[f"{aggregation}/drift"] < 0) == bool(longer)
    assert found["balanced/positive_share"] == approx(0.5)


@given(groups=some_groups, factor=st.integers(2, 7))
def test_stretching_one_sign_leaves_the_balanced_share_alone(groups, factor):
    before = measure(groups)
    after = measure([[(a, factor * length if a > 0 else length) for a, length in group] for group in groups])
    assert after.get("balanced/positive_share") == approx(before.get("balanced/positive_share"))


@given(groups=mixed_groups)
def test_only_sequence_aggregation_makes_tokens_lighter_for_their_own_responses_length(groups):
    found = measure(groups)
    name = "long_token_weight_within_sign"
    assume(f"balanced/{name}" in found)
    for aggregation in ("balanced", "token", "batch_token", "dr_grpo"):
        assert found[f"{aggregation}/{name}"] == approx(1)
    lengths = [{length for a, length in group if (a > 0) == sign} for group in groups for sign in (True, False)]
    if any(len(different) > 1 for different in lengths):
        assert found[f"sequence/{name}"] < 1
    else:
        assert found[f"sequence/{name}"] == approx(1)


@given(groups=mixed_groups)
def test_token_and_batch_token_weigh_all_tokens_of_a_group_or_of_the_batch_alike(groups):
    assert measure(groups)["batch_token/long_token_weight"] == approx(1)
    assert measure(groups[:1])["token/long_token_weight"] == approx(1)


def test_with_equal_lengths_every_aggregation_is_the_same():
    found = measure([grpo([(1, 20), (0, 20), (0, 20)]), grpo([(1, 20), (1, 20), (0, 20)])])
    assert found["within_group_length_cv"] == found["length_gap"] == 0
    for name in ("positive_share", "drift", "long_token_weight", "effective_sequences"):
        values = [found[f"{aggregation}/{name}"] for aggregation in ("balanced", "token", "batch_token", "sequence")]
        assert values == [approx(values[0], abs=1e-12)] * 4


def test_hard_prompts_with_long_answers_make_a_gap_of_the_batch_but_not_of_its_groups():
    hard = grpo([(0, 60), (0, 60), (0, 60), (1, 60)])
    easy = grpo([(1, 10), (1, 10), (1, 10), (0, 10)])
    found = measure([hard, easy])
    assert found["length_gap"] < -0.5
    assert found["length_gap_within_group"] == 0


# ---- what must not matter


@given(groups=some_groups, seed=st.integers(0, 99))
def test_the_order_of_rows_does_not_matter(groups, seed):
    rows = [(number, *response) for number, group in enumerate(groups) for response in group]
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed)).tolist()
    ids, advantages, lengths = zip(*(rows[row] for row in order), strict=True)
    shuffled = metrics_of_rows(ids, lengths, advantages)
    assert shuffled == approx(measure(groups), abs=1e-9)


@given(groups=mixed_groups)
def test_a_response_without_tokens_counts_in_the_mean_over_sequences_only(groups):
    found, with_empty = measure(groups), measure([*groups, [(1.0, 0), (-1.0, 0)]])
    rows, prompts = sum(map(len, groups)), len(groups)
    scales = {"prompt_mean/drift": prompts / (prompts + 1), "token_sum/drift": 1}
    for name, value in found.items():
        scale = scales.get(name, rows / (rows + 2) if name.endswith("drift") else 1)
        assert with_empty[name] == approx(scale * value, abs=1e-9)


def test_measures_of_the_whole_are_no_averages_of_measures_of_its_parts():
    halves = [[(1.0, 10), (-1.0, 30)]], [[(1.0, 40), (1.0, 60), (-1.0, 20)]]
    whole = measure([*halves[0], *halves[1]])
    for name in ("token/positive_share", "sequence/long_token_weight", "length_gap", "token/effective_sequences"):
        assert whole[name] != approx(mean(measure(half)[name] for half in halves), rel=0.01)


# ---- what is not defined


def test_what_is_undefined_is_left_out():
    assert metrics_of_rows([], [], []) == {}
    no_sign = measure([[(0.0, 4), (0.0, 6)]])
    assert no_sign == {"within_group_length_cv": approx(0.2), "mixed_groups": 0} | {
        f"{r}/drift": 0 for r in AGGREGATIONS
    }
    one_sign = measure([[(1.0, 4), (1.0, 6)]])
    assert one_sign["token/positive_share"] == 1
    assert not {"negative_length", "length_gap", "length_gap_within_group"} & one_sign.keys()
    assert "sequence/long_token_weight" not in measure([[(1.0, 4)]])


def test_advantages_that_are_no_numbers_stop_no_run():
    assert math.isnan(measure([[(math.nan, 4), (1.0, 6)]])["token/drift"])


def test_every_value_is_a_finite_number():
    for group in (HAND[0], [(1.0, 1)], [(-1.0, 0), (2.0, 5)], [(0.0, 3)]):
        assert all(type(value) is float and math.isfinite(value) for value in measure([group]).values())


def test_a_budget_that_is_none_is_refused():
    with pytest.raises(ValueError, match="response_budget=0"):
        measure([[(1.0, 4)]], budget=0)


# ---- from verl's matrices


def test_a_responses_advantage_is_the_mean_of_its_unmasked_tokens_whatever_stands_elsewhere():
    nan = math.nan
    advantages = torch.tensor([[0.5, 0.5, nan], [3.0, -1.0, 9.0], [nan, nan, nan]])
    mask = torch.tensor([[1, 1, 0], [1, 1, 0], [0, 0, 0]])
    assert Rows.measured("abc", None, advantages, mask).responses().advantages.tolist() == [0.5, 1.0]


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("mask_kind", [torch.bool, torch.long, torch.float32])
def test_masked_tokens_leave_nothing_whatever_stands_there(kind, mask_kind):
    mask = torch.tensor([[1, 0, 1, 0], [0, 1, 0, 0]])
    advantages = torch.tensor([[-0.5, torch.nan, -1.5, torch.inf], [-torch.inf, 2.0, torch.nan, 7.0]], dtype=kind)
    rows = Rows.measured("ab", None, advantages.requires_grad_(), mask.to(mask_kind))
    assert rows.lengths.tolist() == [2, 1]
    assert (rows.sums.tolist(), rows.lowest.tolist(), rows.highest.tolist()) == ([-2, 2], [-1.5, 0], [0, 2])


@given(groups=some_groups)
def test_matrices_and_lists_give_the_same_measures(groups):
    ids, advantages, mask = matrices(groups)
    found = aggregation_metrics(Rows.measured(ids, None, advantages, mask).responses(BUDGET))
    assert found == approx(measure(groups), abs=1e-6)


@given(groups=mixed_groups, seed=st.integers(0, 99))
def test_a_response_measures_the_same_whichever_rows_it_is_made_of(groups, seed):
    """Rows of a session lie anywhere, some without tokens."""
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for session, (number, advantage, length) in enumerate(
        (number, *response) for number, group in enumerate(groups) for response in group
    ):
        cut = int(torch.randint(length + 1, (), generator=generator))
        rows += [(number, session, advantage, part) for part in (cut, length - cut, 0)]
    order = torch.randperm(len(rows), generator=generator).tolist()
    ids, sessions, advantages, lengths = zip(*(rows[row] for row in order), strict=True)
    lengths, advantages = torch.tensor(lengths), torch.tensor(advantages, dtype=torch.double)
    split = Rows.of_lengths(ids, sessions, lengths, advantages)
    assert aggregation_metrics(split.responses(BUDGET)) == approx(measure(groups), abs=1e-9)


# ---- by optimizer step


def by_step(groups: list[list[Response]], steps: list[int], mode: str = "balanced") -> dict[str, float]:
    rows = [(number, *response) for number, group in enumerate(groups) for response in group]
    ids, advantages, lengths = zip(*rows, strict=True)
    lengths, advantages = torch.tensor(lengths), torch.tensor(advantages, dtype=torch.double)
    of_rows = Rows.of_lengths(ids, None, lengths, advantages)
    return step_metrics(of_rows, of_rows.responses(BUDGET), rule_of(mode), torch.tensor(steps))


def test_whole_groups_leave_half_of_every_step_to_either_sign_and_cut_ones_do_not():
    whole = by_step(HAND, [0, 0, 0, 0, 1, 1])
    # The second group has no gradient, so that its step has no share.
    assert whole == {"step_positive_share_min": 0.5, "step_positive_share_max": 0.5, "cut_groups": 0}
    # D = 20, 20, 60, 60: masses .5, 1.5 of the positive ones, 2/3, 4/3 of the negative ones
    cut = by_step(HAND, [0, 1, 0, 1, 1, 1])
    assert cut["step_positive_share_min"] == approx(0.5 / (0.5 + 2 / 3))
    assert cut["step_positive_share_max"] == approx(1.5 / (1.5 + 4 / 3))
    assert cut["cut_groups"] == 0.5


def test_a_step_without_gradient_or_tokens_has_no_share():
    assert by_step([[(0.0, 4), (0.0, 5)]], [0, 1]) == {"cut_groups": 1}
    assert by_step([[(1.0, 0)]], [0]) == {}


def test_importing_it_brings_no_verl():
    script = (
        "import sys, balanced_agg.loss.diagnostics; print([m for m in ('verl', 'vllm', 'ray') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout == "[]\n"


def test_the_docs_explain_every_measure():
    page = (Path(__file__).parents[2] / "docs/diagnostics.md").read_text()
    keys = {
        name.replace("balanced/", "NAME/") for name in measure(HAND) if name.startswith("balanced/") or "/" not in name
    } | by_step(HAND, [0, 1, 0, 1, 1, 1]).keys()
    assert [key for key in keys if f"`{key}`" not in page] == []
