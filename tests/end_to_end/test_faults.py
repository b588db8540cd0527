"""Faults during a real run: it goes on, or stops with one message, and counts every score that it made up."""

import math
import subprocess

import pytest
import torch
from verl.utils.checkpoint.checkpoint_manager import find_latest_ckpt_path

from tests.end_to_end.launch import ROOT, train

pytestmark = pytest.mark.slow

SMALL = [
    "data.train_batch_size=4",
    "actor_rollout_ref.actor.ppo_mini_batch_size=4",
    "trainer.test_freq=-1",
    "trainer.logger=[console,file]",
]


@pytest.fixture(scope="module")
def faulty_run(tmp_path_factory, arithmetic_model):
    """Another fault at each of eight steps: tests/end_to_end/faulty_reward.py and faulty_rollouts.py."""
    return train(
        "arithmetic",
        tmp_path_factory.mktemp("faults"),
        *SMALL,
        "data.val_max_samples=8",
        "trainer.total_training_steps=9",
        "trainer.save_freq=-1",
        f"reward.custom_reward_function.path={ROOT}/tests/end_to_end/faulty_reward.py",
        "reward.timeout=5",
        environment={"VERL_USE_EXTERNAL_MODULES": "tests.end_to_end.faulty_rollouts"},
    )


def test_the_run_goes_on_until_no_score_comes_and_then_stops_with_one_message(faulty_run):
    assert faulty_run.returncode != 0
    assert sorted(faulty_run.steps) == list(range(8))
    (message,) = [line for line in faulty_run.log.splitlines() if line.startswith("RuntimeError: ")]
    assert message.startswith("RuntimeError: step 8: 32 of 32 scores did not come")
    assert "LookupError: no answer for" in message


@pytest.mark.parametrize(
    ("step", "fault", "defaulted", "missing"),
    [
        (1, "a reward function that raises", 3, 0),
        (2, "one that hangs, waiting and spinning", 2, 0),
        (3, "one that returns nan, inf, None, a string, a dict without a score", 5, 0),
        (4, "a group without a rollout, and one with a single one", 0, 15),
        (5, "a response without tokens", 0, 1),
        (6, "all rewards equal", 0, 0),
    ],
)
def test_what_is_made_up_or_missing_is_counted(faulty_run, step, fault, defaulted, missing):
    logged = faulty_run.steps[step]
    assert logged["reward/defaulted"] == defaulted
    assert logged["rollout/missing"] == missing
    assert logged["reward/defaulted_share"] == pytest.approx(defaulted / (32 - missing))


def test_a_reward_worker_that_freezes_is_started_again_and_still_gives_its_scores(faulty_run):
    assert "Timeout (0:00:35)!" in faulty_run.log
    assert faulty_run.steps[7]["reward/defaulted"] == 0
    assert faulty_run.steps[7]["rollout/missing"] == 0


def test_validation_counts_defaults_too(faulty_run):
    assert faulty_run.steps[0]["val-aux/arithmetic/grader_failed/mean@2"] == 4 / 16


def test_every_logged_number_is_finite(faulty_run):
    for step, logged in faulty_run.steps.items():
        assert [name for name, value in logged.items() if not math.isfinite(value)] == [], step
    for step in range(1, 8):
        assert {"actor/grad_norm", "actor/pg_loss", "aggregation/balanced/drift"} <= faulty_run.steps[step].keys()


def test_equal_rewards_teach_nothing(faulty_run):
    assert faulty_run.steps[6]["actor/grad_norm"] == 0
    assert faulty_run.steps[5]["actor/grad_norm"] > 0


def test_each_kind_of_error_leaves_a_traceback(faulty_run):
    assert "no answer for" in faulty_run.log and 'faulty_reward.py", line' in faulty_run.log


@pytest.fixture
def small_disk(tmp_path):
    """A file system with room for one checkpoint (11 MB) and not for two."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a file system takes root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_at_a_checkpoint_stops_the_run_and_leaves_the_last_complete(tmp_path, arithmetic_model, small_disk):
    command = [
        *SMALL,
        "trainer.val_before_train=false",
        "trainer.total_training_steps=3",
        "trainer.save_freq=1",
        f"trainer.default_local_dir={small_disk}",
    ]
    run = train("arithmetic", tmp_path / "run", *command)
    assert run.returncode != 0
    assert sorted(run.steps) == [1]
    assert run.leftover == []
    complete = small_disk / "global_step_1"
    assert find_latest_ckpt_path(str(small_disk)) == str(complete)
    for file in complete.rglob("*.pt"):
        torch.load(file, weights_only=False)
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    resumed = train("arithmetic", tmp_path / "run", *command)
    assert resumed.returncode == 0, resumed.log[-5000:]
    assert sorted(resumed.steps) == [1, 2, 3]
