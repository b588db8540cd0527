"""scripts/train.sh on input that cannot work: one message with the key, before Ray starts, nothing left behind."""

import pytest

from balanced_agg.arithmetic.tokenizer import build_tokenizer
from tests.composed import write_rows
from tests.end_to_end.launch import train

pytestmark = pytest.mark.slow

BAD = {
    "an unknown mode": ("actor_rollout_ref.actor.loss_agg_mode=ballanced", "actor_rollout_ref.actor.loss_agg_mode"),
    "groups of one": ("actor_rollout_ref.rollout.n=1", "actor_rollout_ref.rollout.n"),
    "an estimator without groups": ("algorithm.adv_estimator=gae", "algorithm.adv_estimator"),
    "an incompatible loss": (
        "actor_rollout_ref.actor.policy_loss.loss_mode=geo_mean",
        "actor_rollout_ref.actor.policy_loss.loss_mode",
    ),
    "a missing data file": ("data.train_files=/nowhere/train.parquet", "data.train_files"),
    "a model without a chat template": ("", "actor_rollout_ref.model.custom_chat_template"),
    "too few CPUs": ("ray_kwargs.ray_init.num_cpus=2", "ray_kwargs.ray_init.num_cpus"),
}


@pytest.fixture
def inputs(tmp_path):
    """Files that are good enough for every check."""
    folder = tmp_path / "arithmetic"
    build_tokenizer().save_pretrained(folder / "model")
    for split in ("train", "validation"):
        write_rows(folder / f"{split}.parquet")
    return folder


@pytest.mark.parametrize(("override", "key"), BAD.values(), ids=BAD.keys())
def test_bad_input_ends_in_one_message_with_the_key(inputs, tmp_path, override, key):
    if key.endswith("custom_chat_template"):
        (inputs / "model" / "chat_template.jinja").unlink()
    overrides = [f"arithmetic.dir={inputs}"] + ([override] if override else [])
    run = train("arithmetic", tmp_path / "run", *overrides, deadline=120)
    assert run.returncode != 0
    (message,) = [line for line in run.log.splitlines() if line.startswith("ValueError: ")]
    assert key in message
    assert "ray init kwargs" not in run.log, "Ray was started"
    assert run.leftover == []
