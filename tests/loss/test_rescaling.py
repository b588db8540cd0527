"""Rescaled advantages under an ordinary token mean are the rule, for verl's real policy losses that are homogeneous."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor
from verl.trainer.ppo import core_algos

from balanced_agg.loss.aggregation import aggregate, length_divisors, rescaled_advantages
from balanced_agg.loss.rules import RULES
from tests.minibatch import CLIP, DUAL_CLIP, make_actor_config

BUDGET = 16
MODES = [*(rule.mode for rule in RULES.values()), "delta-l:0.5", "sqrt-length@equal-mass"]
# The losses of verl 0.9.1 that aggregate as they are told: does c * A give c * a token's loss, for every c > 0?
HOMOGENEOUS = ["vanilla", "gspo", "cispo", "gpg", "dppo_tv", "dppo_kl"]
NOT_HOMOGENEOUS = ["clip_cov", "kl_cov", "dro"]


@dataclass(frozen=True)
class Rollout:
    group_ids: list[str]
    session_ids: list[str] | None
    advantages: Tensor  # (rows, tokens)
    mask: Tensor  # (rows, tokens)
    log_probs: Tensor  # (rows, tokens)
    old_log_probs: Tensor  # (rows, tokens)

    @property
    def responses(self) -> int:
        return len(set(self.session_ids or range(len(self.mask))))


def rollout(by_sessions: bool) -> Rollout:
    """Five groups of six rows, the last one empty, and masks with holes; ratios on all sides of all clips.

    By sessions, three rows of each group are one response.
    """
    generator = torch.Generator().manual_seed(0)
    rows = [(f"group {g}", f"session {g} {s}") for g in range(5) for s in (0, 1, 1, 1, 2, 3)]
    if not by_sessions:
        rows = [(group, f"{session} {row}") for row, (group, session) in enumerate(rows)]
    group_ids, session_ids = map(list, zip(*rows, strict=True))
    of_session = dict(zip(session_ids, torch.randn(len(rows), generator=generator, dtype=torch.double), strict=True))
    shape = (len(rows), BUDGET)
    lengths = torch.randint(1, BUDGET + 1, (len(rows), 1), generator=generator)
    lengths[-1] = 0
    mask = (torch.arange(BUDGET) < lengths) & (torch.rand(shape, generator=generator) < 0.8)
    advantages = torch.stack([of_session[session] for session in session_ids])[:, None] * mask
    log_probs = -2 * torch.rand(shape, generator=generator, dtype=torch.double)
    log_ratios = torch.randn(shape, generator=generator, dtype=torch.double)
    ratios = log_ratios.exp()[mask]
    negative = advantages[mask] < 0
    for sign in (negative, ~negative):
        assert (ratios[sign] < 1 - CLIP).any() and (ratios[sign] > 1 + CLIP).any() and (ratios[sign] > DUAL_CLIP).any()
    sessions = session_ids if by_sessions else None
    return Rollout(group_ids, sessions, advantages, mask.long(), log_probs, log_probs - log_ratios)


def gradient(loss_mode: str, batch: Rollout, advantages: Tensor, aggregated: Callable, monkeypatch) -> Tensor:
    """(rows, tokens) of verl's policy loss in the log-probabilities."""
    monkeypatch.setattr(core_algos, "agg_loss", aggregated)
    log_probs = batch.log_probs.clone().requires_grad_()
    config = make_actor_config("token-mean", loss_mode)
    # Many tokens are chosen by their covariance, and none of them by chance.
    vars(config.policy_loss).update(clip_cov_ratio=1.0, clip_cov_lb=0.1, clip_cov_ub=50.0, kl_cov_ratio=0.2)
    loss_fn = core_algos.get_policy_loss_fn(loss_mode)
    loss, _ = loss_fn(batch.old_log_probs, log_probs, advantages, batch.mask, "token-mean", config)
    loss.backward()
    return log_probs.grad


@pytest.mark.parametrize("by_sessions", [False, True], ids=["rows", "sessions"])
@pytest.mark.parametrize("loss_mode", HOMOGENEOUS + NOT_HOMOGENEOUS)
def test_a_token_mean_of_rescaled_advantages_has_the_rules_gradient(loss_mode: str, by_sessions: bool, monkeypatch):
    batch = rollout(by_sessions)
    token_mean = core_algos.agg_loss
    differing = set()
    for mode in MODES:
        arguments = (mode, batch.group_ids, batch.advantages, batch.mask, batch.session_ids, BUDGET)
        divisors = length_divisors(*arguments)

        def by_rule(loss_mat: Tensor, loss_mask: Tensor, divisors: Tensor = divisors, **_) -> Tensor:
            return aggregate(loss_mat, loss_mask, divisors, batch.responses)

        expected = gradient(loss_mode, batch, batch.advantages, by_rule, monkeypatch)
        found = gradient(loss_mode, batch, rescaled_advantages(*arguments), token_mean, monkeypatch)
        if (found - expected).abs().max() > 1e-6 * expected.abs().max():
            differing.add(mode)
    if loss_mode in HOMOGENEOUS:
        assert differing == set()
    else:
        assert {"balanced", "group-token-mean", "seq-mean-token-mean"} <= differing


def test_one_advantage_a_row_is_rescaled_as_its_tokens_are():
    batch = rollout(by_sessions=False)
    of_rows = torch.arange(len(batch.mask)) - 9.5
    for mode in MODES:
        rescaled = [
            rescaled_advantages(mode, batch.group_ids, advantages, batch.mask, response_budget=BUDGET)
            for advantages in (of_rows, of_rows[:, None].expand_as(batch.mask))
        ]
        assert rescaled[0].dtype == torch.float32
        assert torch.equal(rescaled[0][:, None].expand_as(batch.mask), rescaled[1])


def test_where_there_are_no_tokens_advantages_come_back_as_they_are():
    mask = torch.tensor([[1, 1], [0, 0]])
    advantages = torch.tensor([[2.0, 2.0], [math.nan, 5.0]])
    # Mean length 1 of the two responses, divisor 2.
    found = rescaled_advantages("balanced", "aa", advantages, mask)
    assert found.nan_to_num(0).tolist() == [[1.0, 1.0], [0.0, 5.0]]
    assert torch.equal(rescaled_advantages("balanced", "aa", advantages[:, 1], 0 * mask), advantages[:, 1])
    assert rescaled_advantages("balanced", "", torch.zeros(0, 2), torch.zeros(0, 2)).shape == (0, 2)


def test_shapes_that_disagree_are_refused():
    for advantages, mask in ((torch.ones(3), torch.ones(2, 4)), (torch.ones(2), torch.ones(2))):
        with pytest.raises(ValueError, match="must both be"):
            rescaled_advantages("balanced", "aa", advantages, mask)
