"""The sentences say what the numbers say, also in the opposite and in the null case."""

import pytest
import torch

from balanced_agg.commands.inspect.answer import MEASURES, sentences, summary
from balanced_agg.commands.inspect.steps import StepMeasures
from balanced_agg.loss.diagnostics import aggregation_metrics
from balanced_agg.loss.responses import Rows
from balanced_agg.loss.rules import AGGREGATIONS, RULES


def metrics_of(groups, lengths, advantages, budget=100) -> dict[str, float]:
    rows = Rows.of_lengths(groups, None, torch.tensor(lengths), torch.tensor(advantages).double())
    return aggregation_metrics(rows.responses(budget))


def step_of(positive, negative, step=1) -> StepMeasures:
    """One group with these lengths of the positive and the negative responses, all advantages of size 1."""
    lengths = [*positive, *negative]
    advantages = [1.0] * len(positive) + [-1.0] * len(negative)
    return StepMeasures(step, len(lengths), 1, metrics_of("a" * len(lengths), lengths, advantages))


def test_longer_negative_responses():
    token, batch_token, sequence = sentences([step_of([10, 30], [50, 70])])
    assert "group-token-mean the positive responses get 25.0 % of the gradient, under balanced 50.0 %" in token
    assert "BA would move 25.0 points from the negative to the positive responses" in token
    assert "negative responses are the longer ones (gap -1.00)" in token
    assert "token-mean (verl's default) the positive responses get 25.0 %" in batch_token
    # A quarter of four is one response: 70 tokens against 10; within the signs 30 against 10 and 70 against 50.
    assert f"{10 / 70:.2f} times the weight" in sequence
    assert f"under balanced {20 / 60:.2f} times" in sequence
    assert f"to the same prompt {(10 / 30 + 50 / 70) / 2:.2f} times, under balanced 1.00" in sequence
    assert "is what BA would take away" in sequence


def test_longer_positive_responses():
    token, batch_token, _ = sentences([step_of([50, 70], [10, 30])])
    assert "get 75.0 % of the gradient" in token
    assert "BA would move 25.0 points from the positive to the negative responses" in token
    assert "positive responses are the longer ones (gap +1.00)" in token
    assert "BA would move 25.0 points from the positive to the negative responses" in batch_token


def test_no_difference():
    token, batch_token, sequence = sentences([step_of([40, 40], [40, 40]), step_of([80, 80], [81, 81], step=2)])
    # 160 of 322 tokens are positive: .31 points away, rounded up.
    assert "BA and it differ by no more than 0.4 points at any step" in token
    assert "about equally long" in token
    assert "differ by no more than" in batch_token
    assert "BA would change next to nothing in the weight of tokens" in sequence


def test_differences_in_both_directions_are_not_averaged_away():
    token, *_ = sentences([step_of([10, 30], [50, 70]), step_of([50, 70], [10, 30], step=2)])
    assert "BA would move -25.0 to +25.0 points to the positive ones, depending on the step, and" in token
    assert "0.0 on average" in token


def test_steps_of_one_direction_give_their_range():
    token, *_ = sentences([step_of([10, 30], [50, 70]), step_of([30, 30], [45, 45], step=2)])
    assert "BA would move 17.5 points (10.0 to 25.0 by step) from the negative to the positive" in token


def test_no_gradient_and_no_groups_are_said():
    assert "no gradient" in sentences([StepMeasures(1, 0, 0, {})])[0]
    one_each = metrics_of("ab", [3, 5], [1.0, 1.0])
    (only,) = sentences([StepMeasures(1, 2, 2, one_each)])
    assert "rollout.n of 2 or more" in only and "--group-field" in only


def test_one_sided_groups_and_a_single_response_with_gradient_are_said():
    token, _, sequence = sentences([step_of([3, 5], [])])
    assert "No group has responses of both signs" in token
    metrics = metrics_of("aa", [3, 5], [1.0, 0.0])
    *_, sequence = sentences([StepMeasures(1, 2, 1, metrics)])
    assert "single response" in sequence


def test_the_summary_is_the_mean_over_the_steps_where_a_measure_is_defined():
    steps = [step_of([10, 30], [50, 70]), StepMeasures(2, 0, 0, {}), step_of([20, 20], [20, 20], step=3)]
    found = summary(steps, RULES.values())
    assert list(found) == list(AGGREGATIONS)
    assert all(tuple(of_aggregation) == MEASURES for of_aggregation in found.values())
    assert found["token"]["positive_share"] == pytest.approx((0.25 + 0.5) / 2)
    assert found["token"]["drift"] == pytest.approx((80 / 40 / 4 + 0) / 2)
    assert summary([StepMeasures(2, 0, 0, {})], RULES.values())["token"]["drift"] is None
