"""The evaluation's reward manager, built by verl from the composed config, measures what it grades."""

import numpy as np
import pytest
import torch
from verl import DataProto
from verl.trainer.ppo.reward import load_reward_manager

from balanced_agg.arithmetic.tokenizer import build_tokenizer
from tests.composed import compose_recipe

TOKENIZER = build_tokenizer()
BUDGET = 8


@pytest.fixture(scope="module")
def manager():
    config = compose_recipe("arithmetic", "+evaluation=validation_only", f"data.max_response_length={BUDGET}")
    return load_reward_manager(config, TOKENIZER)


def measured(manager, text: str, ends: bool) -> dict:
    ids = TOKENIZER.encode(text) + [TOKENIZER.eos_token_id] * ends
    tokens = torch.tensor([ids + [TOKENIZER.pad_token_id] * (BUDGET - len(ids))])
    batch = {"responses": tokens, "attention_mask": (torch.arange(BUDGET) < len(ids)).long()[None]}
    row = {"data_source": "arithmetic", "reward_model": {"ground_truth": "7"}, "extra_info": {}}
    extra = {key: np.array([value], dtype=object) for key, value in row.items()}
    return manager.loop.run_until_complete(manager.run_single(DataProto.from_dict(batch, extra)))["reward_extra_info"]


def test_a_right_response_that_ends(manager):
    info = measured(manager, "#7", ends=True)
    assert (info["acc"], info["response_tokens"], info["truncated"]) == (1.0, 3.0, 0.0)
    assert info["data_source"] == "arithmetic"


def test_a_response_cut_at_the_budget_is_truncated(manager):
    info = measured(manager, "3+5-2+7=", ends=False)
    assert (info["acc"], info["response_tokens"], info["truncated"]) == (0.0, 8.0, 1.0)


def test_a_response_that_ends_exactly_at_the_budget_is_not_truncated(manager):
    info = measured(manager, "3+5-2+7", ends=True)
    assert (info["response_tokens"], info["truncated"]) == (8.0, 0.0)
