"""The recipe of a language model, cut down to one small step: a pretrained model with tied embeddings.

It borrows the overlong penalty of configs/paper.yaml, which no other recipe has that runs without a GPU.
"""

import pytest
from balanced_agg.data import chain_sum
from balanced_agg.data.prepare import prepare
from balanced_agg.data.smollm2_135m import write_model

from tests.end_to_end.launch import train

pytestmark = pytest.mark.slow

OVERLONG = "{enable: true, len: 40, penalty_factor: 4.0, log: true}"


def test_one_step_of_a_language_model_keeps_rollout_and_actor_together_and_penalises_length(tmp_path):
    write_model(tmp_path / "model")
    files = [prepare(dataset, tmp_path / "data").path for dataset in (chain_sum.TRAIN, chain_sum.VALIDATION)]
    run = train(
        "smollm2_135m_chain_sum",
        tmp_path / "run",
        f"actor_rollout_ref.model.path={tmp_path}/model",
        f"data.train_files={files[0]}",
        f"data.val_files={files[1]}",
        "data.train_batch_size=2",
        "actor_rollout_ref.actor.ppo_mini_batch_size=2",
        "actor_rollout_ref.rollout.n=4",
        "data.max_response_length=48",
        "data.val_max_samples=4",
        "reward.reward_manager.name=dapo",
        "+reward.reward_kwargs.max_resp_len=48",
        f"+reward.reward_kwargs.overlong_buffer_cfg={OVERLONG}",
        "trainer.total_training_steps=1",
        "trainer.val_before_train=false",
        "trainer.test_freq=1",
    )
    assert run.returncode == 0, run.log[-3000:]
    step = run.steps[1]
    assert step["training/rollout_actor_probs_pearson_corr"] > 0.99
    # The penalty is a tenth of a point for each token beyond the eighth, and a right answer one point.
    length, reward = step["response_length/mean"], step["critic/rewards/mean"]
    assert -length / 10 <= reward <= 1 - (length - 8) / 10
    assert reward < 0
    assert step["val-aux/chain_sum/overlong_reward/mean@4"] < 0
    assert step["val-aux/chain_sum/grader_failed/mean@4"] == 0
