"""Balanced Aggregation through verl's real ``ppo_loss``: real TensorDict micro-batches, real backward passes."""

import pytest
import torch
from verl.trainer.ppo import core_algos

from balanced_agg.loss.aggregation import aggregate, length_divisors
from balanced_agg.loss.rules import RULES, is_plugin_mode
from balanced_agg.plugin.loss import in_verl as verl_plugin
from tests import minibatch
from tests.minibatch import OUR_MODES, gradient, make_actor_config, make_minibatch, reference_gradient, relative_error

TOLERANCE = 1e-6
SCALED = ["token-mean@equal-mass", "seq-mean-token-mean@equal-mass", "lambda-grpo:-2@equal-mass"]


@pytest.mark.parametrize("mode", OUR_MODES)
@pytest.mark.parametrize("split", [{"micro_batch_size": 1}, {"micro_batch_size": 2}, {"micro_batch_size": 3}, {}])
def test_gradient_does_not_depend_on_the_micro_batch_size(mode, split):
    batch = make_minibatch(seed=1)
    assert relative_error(gradient(batch, mode, **split), reference_gradient(batch, mode)) < TOLERANCE


@pytest.mark.parametrize("mode", OUR_MODES)
@pytest.mark.parametrize("tokens", [40, 64, 1000])
def test_gradient_does_not_depend_on_a_dynamic_token_budget(mode, tokens):
    batch = make_minibatch(seed=2)
    assert relative_error(gradient(batch, mode, token_budget=tokens), reference_gradient(batch, mode)) < TOLERANCE


@pytest.mark.parametrize("mode", OUR_MODES)
def test_gradient_does_not_depend_on_the_order_of_rows(mode):
    batch = make_minibatch(seed=3)
    shuffled = batch.permuted(torch.randperm(len(batch), generator=torch.Generator().manual_seed(0)))
    assert relative_error(gradient(shuffled, mode, micro_batch_size=3), reference_gradient(batch, mode)) < TOLERANCE


@pytest.mark.parametrize("mode", OUR_MODES)
def test_padding_rows_change_nothing_whatever_they_hold(mode):
    batch = make_minibatch(seed=4)
    padded = batch.with_padding_rows(6)
    result = gradient(padded, mode, micro_batch_size=3, responses=len(batch))
    assert relative_error(result, reference_gradient(batch, mode)) < TOLERANCE


def test_counts_of_a_micro_batch_would_give_another_gradient():
    batch = make_minibatch(seed=5)
    local = batch.with_divisors_of_each_micro_batch("balanced", micro_batch_size=3)
    assert relative_error(gradient(local, "balanced", micro_batch_size=3), reference_gradient(batch, "balanced")) > 0.01


LOSSES_WITH_AGG_LOSS = [
    "vanilla",
    "dppo_tv",
    "dppo_kl",
    "gspo",
    "gpg",
    "clip_cov",
    "kl_cov",
    "dro",
    "cispo",
    "bypass_mode",
]


@pytest.mark.parametrize("loss_mode", LOSSES_WITH_AGG_LOSS)
def test_every_policy_loss_that_uses_agg_loss_is_balanced(loss_mode, monkeypatch):
    batch = make_minibatch(seed=6)
    seen = []

    def spy(loss_mat, loss_mask, length_divisor, *info):
        seen.append(length_divisor)
        return aggregate(loss_mat, loss_mask, length_divisor, *info)

    monkeypatch.setattr(verl_plugin, "aggregate", spy)
    assert gradient(batch, "balanced", config=make_actor_config("balanced", loss_mode=loss_mode)).norm() > 0
    expected = length_divisors("balanced", batch.group_ids, batch.padded("advantages"), batch.padded("response_mask"))
    assert len(seen) == 1
    torch.testing.assert_close(seen[0], expected)


def test_the_list_of_losses_above_is_complete():
    refused = {"geo_mean", "sapo"}
    assert set(core_algos.POLICY_LOSS_REGISTRY) == set(LOSSES_WITH_AGG_LOSS) | refused


@pytest.mark.parametrize("loss_mode", ["geo_mean", "sapo"])
def test_a_loss_with_its_own_aggregation_is_refused_in_the_worker_too(loss_mode):
    with pytest.raises(RuntimeError, match=r"policy_loss\.loss_mode"):
        gradient(make_minibatch(seed=7), "balanced", config=make_actor_config("balanced", loss_mode=loss_mode))


def test_a_batch_without_divisors_is_refused():
    losses = minibatch.micro_batch_losses(
        minibatch.initial_logits(), make_minibatch(seed=8), make_actor_config("balanced")
    )
    with pytest.raises(RuntimeError, match="length_divisor"):
        next(losses)


@pytest.mark.parametrize("mode", OUR_MODES)
def test_agg_loss_outside_ppo_loss_is_refused(mode):
    with pytest.raises(RuntimeError, match="outside verl's ppo_loss"):
        core_algos.agg_loss(torch.ones(2, 3), torch.ones(2, 3), mode)


@pytest.mark.parametrize("mode", OUR_MODES)
def test_entropy_and_kl_keep_the_value_of_token_mean(mode):
    batch = make_minibatch(seed=9)
    metrics = {}
    for name in (mode, "token-mean"):
        config = make_actor_config(name, use_kl_loss=True, kl_loss_coef=0.3, entropy_coeff=0.1)
        metrics[name] = minibatch.metrics(batch, config, micro_batch_size=3)
    for key in ("actor/entropy_loss", "kl_loss"):
        assert metrics[mode][key] == pytest.approx(metrics["token-mean"][key], rel=1e-6)
        assert metrics[mode][key] != 0
    assert metrics[mode]["actor/pg_loss"] != pytest.approx(metrics["token-mean"]["actor/pg_loss"], rel=1e-3)


@pytest.mark.parametrize("mode", ["balanced", "sqrt-length@equal-mass"])
def test_a_mini_batch_without_a_token_has_a_loss_of_zero_also_with_entropy_and_kl(mode):
    batch = minibatch.assemble([minibatch.padding_row()] * 4, [f"group{i}" for i in range(4)])
    config = make_actor_config(mode, use_kl_loss=True, kl_loss_coef=0.3, entropy_coeff=0.1)
    for loss, metrics in minibatch.micro_batch_losses(
        minibatch.initial_logits().requires_grad_(), batch.with_divisors(mode), config, micro_batch_size=2
    ):
        assert loss == 0
        assert all(metrics[key].values[0] == 0 for key in ("actor/pg_loss", "actor/entropy_loss", "kl_loss"))
        loss.backward()


@pytest.mark.parametrize("mode", [rule.mode for rule in RULES.values() if is_plugin_mode(rule.mode)] + SCALED)
def test_every_rule_is_the_weighted_sum_of_its_divisors_however_rows_are_split(mode):
    """Token losses on-policy, -A log p, whose gradient is linear in the weights."""
    batch = make_minibatch(seed=12)
    expected = torch.zeros(minibatch.VOCABULARY, minibatch.VOCABULARY, dtype=torch.float64)
    divisors = batch.with_divisors(mode).data["length_divisor"]
    for row, divisor in enumerate(divisors.tolist()):
        # Alone, a response has its own length as every mean, and is one of one.
        alone = batch.rows([row])
        weight = float(alone.tokens()) / divisor / len(batch)
        expected += weight * reference_gradient(alone, "group-token-mean")
    for split in ({"micro_batch_size": 3}, {"token_budget": 40}):
        assert relative_error(gradient(batch, mode, **split), expected) < TOLERANCE


@pytest.mark.parametrize(
    "mode", ["token-mean", "token-sum", "seq-mean-token-sum", "seq-mean-token-mean", "seq-mean-token-sum-norm"]
)
def test_verl_own_modes_pass_through_untouched(mode):
    generator = torch.Generator().manual_seed(10)
    loss_mat = torch.randn(6, 9, generator=generator)
    loss_mask = (torch.rand(6, 9, generator=generator) < 0.6).float()
    original = core_algos.agg_loss.__wrapped__
    for info in ({}, {"dp_size": 2, "batch_num_tokens": 77, "global_batch_size": 12, "loss_scale_factor": 5}):
        assert torch.equal(
            core_algos.agg_loss(loss_mat, loss_mask, mode, **info), original(loss_mat, loss_mask, mode, **info)
        )


def test_verl_own_modes_ignore_divisors_in_ppo_loss():
    batch = make_minibatch(seed=11)
    before = gradient(batch, "token-mean")
    batch.data["length_divisor"] = torch.full((len(batch),), float("nan"))
    assert torch.equal(before, gradient(batch, "token-mean"))


def test_our_modes_are_accepted_by_the_actor_config_and_kept():
    for mode in OUR_MODES:
        assert make_actor_config(mode).loss_agg_mode == mode


def test_an_unknown_mode_is_still_refused_by_the_actor_config():
    with pytest.raises(ValueError, match="loss_agg_mode"):
        make_actor_config("ballanced")


@pytest.mark.parametrize("trainer_mode", ["sync", "colocate_async", "separate_async"])
def test_every_trainer_mode_goes_through_the_wrapped_driver_methods(trainer_mode):
    from verl.trainer.ppo.v1 import get_trainer_cls
    from verl.trainer.ppo.v1.trainer_base import PPOTrainer

    names = ("_compute_advantage", "_compute_old_log_prob", "_compute_metrics", "step", "_save_checkpoint", "fit")
    for name in names:
        assert hasattr(vars(PPOTrainer)[name], "__wrapped__")
        overriding = vars(get_trainer_cls(trainer_mode)).get(name)
        # An override must still reach the base class's method, where the wrapper is.
        assert overriding is None or "__class__" in overriding.__code__.co_freevars
