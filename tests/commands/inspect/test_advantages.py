"""Advantages from scores are verl's."""

import numpy as np
import pytest
import torch

from balanced_agg.commands.inspect.advantages import grpo_advantages


def advantages(scores, groups, **options):
    rows = len(scores)
    return grpo_advantages(torch.tensor(scores), torch.tensor(groups), torch.arange(rows), [0] * rows, **options)


@pytest.mark.parametrize("divide_by_std", [True, False])
def test_advantages_are_those_of_verl(divide_by_std):
    from verl.trainer.ppo.core_algos import compute_grpo_outcome_advantage

    torch.manual_seed(0)
    groups = torch.tensor([0, 1, 0, 2, 1, 0, 1, 3, 3, 0])  # group 2 has one response
    scores = torch.randn(10)
    expected, _ = compute_grpo_outcome_advantage(
        scores.clone().unsqueeze(-1),
        torch.ones(10, 1),
        np.array(groups.tolist(), dtype=object),
        norm_adv_by_std_in_grpo=divide_by_std,
    )
    found = grpo_advantages(scores.double(), groups, torch.arange(10), [0] * 10, divide_by_std)
    torch.testing.assert_close(found.float(), expected.squeeze(-1), rtol=1e-5, atol=1e-6)


def test_all_outputs_of_a_session_get_the_advantage_of_its_last_as_in_verl():
    from tensordict import TensorDict
    from verl import DataProto
    from verl.trainer.ppo.v1.utils import compute_advantage_for_multi_trajectories

    keys = ["p_0_0", "p_0_1", "p_1_0", "q_0_1", "q_0_0", "q_1_0", "q_2_0"]
    sessions = [0, 0, 1, 2, 2, 3, 4]
    scores = torch.tensor([9.0, 1.0, 0.0, 0.0, 7.0, 1.0, 1.0])
    batch = TensorDict(
        {"token_level_rewards": scores.unsqueeze(-1), "response_mask": torch.ones(7, 1)}, batch_size=7
    ).clone()
    data = DataProto(batch=batch, non_tensor_batch={"uid": np.array([key[0] for key in keys], dtype=object)})
    expected = compute_advantage_for_multi_trajectories(data, keys, "grpo").batch["advantages"].squeeze(-1)

    outputs = [int(key[-1]) for key in keys]
    groups = torch.tensor([0, 0, 0, 1, 1, 1, 1])
    found = grpo_advantages(scores.double(), groups, torch.tensor(sessions), outputs)
    torch.testing.assert_close(found.float(), expected, rtol=1e-5, atol=1e-6)


def test_hand_arithmetic():
    # mean 1/2, deviation sqrt((4 * 1/4) / 3) = 1/sqrt(3)
    expected = 0.5 / (3**-0.5 + 1e-6)
    assert advantages([1.0, 1.0, 0.0, 0.0], [0, 0, 0, 0]).tolist() == pytest.approx([expected] * 2 + [-expected] * 2)
    assert advantages([1.0, 0.0, 0.0], [0, 0, 0], divide_by_std=False).tolist() == pytest.approx(
        [2 / 3, -1 / 3, -1 / 3]
    )


def test_a_single_response_keeps_its_score():
    assert advantages([3.0, 1.0], [0, 1], divide_by_std=False).tolist() == [3.0, 1.0]


@pytest.mark.parametrize("responses", [2, 3, 7, 8])
def test_equal_scores_have_no_advantage_where_they_are_no_binary_fractions_either(responses):
    assert advantages([0.1] * responses, [0] * responses).tolist() == [0.0] * responses
