"""On CPU a step is spared what takes long in verl, with the same results."""

import asyncio
import itertools
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from balanced_agg.plugin.cpu import in_verl as cpu
from balanced_agg.plugin.cpu import log_probs as module
from balanced_agg.plugin.cpu.log_probs import log_probs_of
from balanced_agg.plugin.cpu.micro_batches import cut_by_length

LENGTHS = st.lists(st.integers(1, 1000), min_size=1, max_size=40)


@given(LENGTHS, st.data())
def test_each_row_is_in_one_micro_batch_and_none_is_empty(lengths, data):
    parts = data.draw(st.integers(1, len(lengths)))
    rows = cut_by_length(lengths, parts)
    assert len(rows) == parts and all(rows)
    assert sorted(row for part in rows for row in part) == list(range(len(lengths)))
    assert all(part == sorted(part) for part in rows)


@given(LENGTHS, st.data())
def test_no_row_is_longer_than_one_of_a_later_micro_batch(lengths, data):
    rows = cut_by_length(lengths, data.draw(st.integers(1, len(lengths))))
    for earlier, later in itertools.pairwise(rows):
        assert max(lengths[row] for row in earlier) <= min(lengths[row] for row in later)


@given(LENGTHS, st.data())
def test_micro_batches_differ_by_no_more_than_two_rows_where_none_had_to_be_filled_up(lengths, data):
    parts = data.draw(st.integers(1, max(1, len(lengths) // 4)))
    sums = [sum(lengths[row] for row in part) for part in cut_by_length(lengths, parts)]
    share, longest = sum(lengths) / parts, max(lengths)
    if longest <= share:
        assert all(abs(each - share) <= 2 * longest for each in sums)


def test_verls_micro_batches_pad_less_and_keep_its_limit():
    from tensordict import TensorDict
    from verl.utils import seqlen_balancing

    lengths = torch.randint(10, 90, (64,), generator=torch.Generator().manual_seed(1)).tolist()
    ids = torch.nested.as_nested_tensor([torch.full((n,), row) for row, n in enumerate(lengths)], layout=torch.jagged)
    batch = TensorDict({"input_ids": ids}, batch_size=len(lengths))

    def padded(rows):
        return sum(len(part) * max(lengths[row] for row in part) for part in rows)

    mixed = seqlen_balancing.rearrange_micro_batches(batch, 800)[1]
    original = seqlen_balancing.get_seqlen_balanced_partitions
    sorted_by_length = cpu._keep_lengths_together
    try:
        seqlen_balancing.get_seqlen_balanced_partitions = lambda *a, **k: sorted_by_length(original, None, a, k)
        micro_batches, rows = seqlen_balancing.rearrange_micro_batches(batch, 800)
    finally:
        seqlen_balancing.get_seqlen_balanced_partitions = original
    assert all(sum(lengths[row] for row in part) <= 800 for part in rows)
    assert sum(lengths) < padded(rows) < 0.8 * padded(mixed)
    for micro_batch, part in zip(micro_batches, rows, strict=True):
        assert [int(row[0]) for row in micro_batch["input_ids"].unbind()] == part


def test_shares_of_ranks_stay_as_verl_makes_them():
    asked = []
    shares = cpu._keep_lengths_together(lambda *args: asked.append(args) or "verl's", None, ([3, 1], 2, True), {})
    assert shares == "verl's" and asked == [([3, 1], 2, True)]


def test_a_ranks_fields_are_the_tensors_and_what_a_model_may_read():
    schema = {
        name: {"is_non_tensor": words}
        for name, words in {"input_ids": False, "raw_prompt": True, "multi_modal_inputs": True}.items()
    }

    async def batch_meta(meta):
        return SimpleNamespace(field_schema=schema, select_fields=lambda names: names)

    assert asyncio.run(cpu._leave_objects_out(batch_meta, None, ("meta",), {})) == ["input_ids", "multi_modal_inputs"]


@pytest.mark.parametrize("shape", [(0,), (1,), (7,), (3, 5)])
@pytest.mark.parametrize("at_once", [2**22, 42, 20])  # all tokens, two, and fewer than the vocabulary: one
def test_log_probs_are_those_of_the_softmax_and_so_is_their_gradient(shape, at_once, monkeypatch):
    monkeypatch.setattr(module, "LOGITS_AT_ONCE", at_once)
    generator, vocabulary = torch.Generator().manual_seed(0), 21
    logits = torch.randn(*shape, vocabulary, generator=generator, requires_grad=True)
    labels = torch.randint(vocabulary, shape, generator=generator)
    log_probs = log_probs_of(logits, labels)
    reference = logits.log_softmax(-1).gather(-1, labels[..., None]).squeeze(-1)
    torch.testing.assert_close(log_probs, reference)
    weights = torch.randn(shape, generator=generator)
    gradients = [torch.autograd.grad((each * weights).sum(), logits)[0] for each in (log_probs, reference)]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_log_probs_are_verls_own(dtype):
    from verl.utils.torch_functional import logprobs_from_logits_v2

    original = getattr(logprobs_from_logits_v2, "__wrapped__", logprobs_from_logits_v2)
    logits = torch.randn(9, 21, generator=torch.Generator().manual_seed(0)).to(dtype)
    labels = torch.arange(9)
    torch.testing.assert_close(
        cpu._take_many_tokens(original, None, (logits, labels), {}), original(logits, labels), rtol=0, atol=1e-6
    )


class Made:
    def __init__(self, **settings):
        self.settings = settings


def test_hydra_makes_the_first_of_a_kind_and_those_with_settings_of_their_own(monkeypatch):
    monkeypatch.setattr(cpu, "_made_by_hydra", {})
    by_hydra = []

    def instantiate(config, **settings):
        by_hydra.append(config)
        return Made(**settings)

    def make(config):
        return cpu._make_without_hydra(instantiate, None, (), {"config": config, "tokenizer": by_hydra})

    plain = {"_target_": f"{__name__}.Made"}
    for config, calls in ((plain, 1), (plain, 1), (plain | {"n": 1}, 2), ({"_target_": "elsewhere"}, 3)):
        made = make(config)
        assert type(made) is Made and made.settings["tokenizer"] is by_hydra
        assert len(by_hydra) == calls
    make({"_target_": "elsewhere"})
    assert len(by_hydra) == 4  # what it made is not of that name


@pytest.mark.parametrize(
    "data",
    [[0.0, 1.0, 1.0, 0.0], [True, 2, -0.5], [math.inf, 1.0], [1.0, math.nan, 0.0], [3], list(range(16))],
    ids=str,
)
@pytest.mark.parametrize("reduce_fns", [[np.max, np.min], [np.min], [np.mean], [np.max, len]], ids=len)
def test_statistics_of_resamples_are_verls_own_to_the_bit_and_so_is_the_state_of_the_generator(data, reduce_fns):
    from verl.trainer.ppo.metric_utils import bootstrap_metric

    original = getattr(bootstrap_metric, "__wrapped__", bootstrap_metric)
    asked = {"data": data, "subset_size": 2, "reduce_fns": reduce_fns, "n_bootstrap": 50, "seed": 7}
    expected, state = original(**asked), np.random.get_state()
    at_once = cpu._reduce_at_once(original, None, (), asked)
    assert repr(at_once) == repr(expected)
    assert all(np.array_equal(a, b) for a, b in zip(np.random.get_state(), state, strict=True))


def test_the_best_and_the_worst_of_numbers_are_never_left_to_verl():
    def never(*args):
        raise AssertionError(args)

    assert len(cpu._reduce_at_once(never, None, ([0.0, 1.0], 2, [np.max, np.min]), {})) == 2
