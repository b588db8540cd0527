"""verl's keys are read as verl writes them, in its TransferQueue and in its dumps."""

from types import SimpleNamespace

import pytest
import torch
from transfer_queue import KVBatchMeta
from verl.trainer.ppo import padding_utils

from balanced_agg.runs.verl_keys import Key, is_padding, parse, without_padding


@pytest.mark.parametrize(
    ("key", "parsed"),
    [
        ("3f2c_0_0", Key("3f2c", "3f2c_0", 0)),
        ("3f2c_11_2", Key("3f2c", "3f2c_11", 2)),
        ("a_b_1_0", Key("a_b", "a_b_1", 0)),
        ("3f2c_0", None),
        ("what is 1+1?", None),
    ],
)
def test_a_key_is_prompt_session_and_output(key, parsed):
    assert parse(key) == parsed


def test_the_rows_that_verl_adds_to_a_batch_are_padding_by_key_and_by_tag(monkeypatch):
    row = {name: torch.ones(2) for name in ("input_ids", "attention_mask", "responses", "position_ids")}
    queue = SimpleNamespace(kv_batch_get=lambda **_: [row], kv_batch_put=lambda **_: None)
    monkeypatch.setattr(padding_utils, "tq", queue)
    keys = ["3f2c_0_0", "3f2c_1_0", "pad_0_0"]  # a user may call a prompt so
    batch = KVBatchMeta(keys=keys, tags=[{}, {}, {}], partition_id="train", fields=None, extra_info={})
    padded = padding_utils.upsample_batch_to_divisible_size(batch, 4, eos_token_id=0)
    assert without_padding(padded) == keys
    assert [key for key in padded.keys if not is_padding(key)] == keys
    assert len(padded) == 4
