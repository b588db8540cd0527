"""What verl's own functions do about checkpoints once they are wrapped: find, save, keep, refuse."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
from omegaconf import OmegaConf
from verl.utils.checkpoint.checkpoint_manager import BaseCheckpointManager, find_latest_ckpt_path

from balanced_agg.plugin.guard import checkpoints
from balanced_agg.plugin.guard import resume as in_verl
from tests.plugin.guard.test_checkpoints import cut, save, steps

TRACKER = "latest_checkpointed_iteration.txt"


def found(run) -> str | None:
    path = find_latest_ckpt_path(str(run))
    return path and path.removeprefix(f"{run}/")


def test_a_run_resumes_from_the_last_complete_checkpoint_whatever_verls_file_says(tmp_path, caplog):
    save(tmp_path, 1)
    cut(save(tmp_path, 2))
    save(tmp_path, 3, finish=False)
    for text in ("3", "2", ""):
        (tmp_path / TRACKER).write_text(text)
        assert found(tmp_path) == "global_step_1"
    assert "global_step_3 is skipped: its writing was interrupted" in caplog.text
    assert "global_step_2 is skipped: actor/model.pt has 5 bytes instead of 14" in caplog.text


def test_a_run_resumes_though_the_mark_of_its_last_checkpoint_is_empty(tmp_path, caplog):
    save(tmp_path, 1)
    (save(tmp_path, 2) / checkpoints.MARK).write_bytes(b"")
    assert found(tmp_path) == "global_step_1"
    assert f"{tmp_path}/global_step_2/checkpoint.json cannot be read: it is empty" in caplog.text


@pytest.mark.parametrize("tracker", [None, "", "1"])
def test_a_run_whose_first_checkpoint_was_cut_short_starts_anew(tmp_path, tracker):
    save(tmp_path, 1, finish=False)
    if tracker is not None:
        (tmp_path / TRACKER).write_text(tracker)
    assert found(tmp_path) is None


def test_a_run_without_checkpoints_starts_anew(tmp_path):
    assert found(tmp_path) is None
    assert find_latest_ckpt_path(None) is None


def test_checkpoints_that_verl_alone_wrote_stay_resumable_by_its_own_rule(tmp_path, caplog):
    for step in (1, 2, 3):
        (tmp_path / f"global_step_{step}").mkdir()
    (tmp_path / TRACKER).write_text("2")
    assert found(tmp_path) == "global_step_2"
    assert "whether it is complete is not known" in caplog.text


@pytest.mark.parametrize("tracker", ["9", "", "10"])
def test_checkpoints_that_verl_alone_wrote_are_not_lost_when_the_first_one_with_a_mark_is_cut_short(tmp_path, tracker):
    for folder in ("global_step_8", "global_step_9", "global_step_9-evaluation"):
        (tmp_path / folder).mkdir()
    save(tmp_path, 10, finish=False)
    (tmp_path / TRACKER).write_text(tracker)
    assert found(tmp_path) == "global_step_9"


@pytest.mark.parametrize("content", [b"", b"two", b"\xff", b"9" * 5000])
def test_a_torn_file_of_verls_own_is_refused_with_the_key(tmp_path, content):
    (tmp_path / "global_step_1").mkdir()
    (tmp_path / TRACKER).write_bytes(content)
    with pytest.raises(ValueError, match=r"resume_mode=resume_path trainer\.resume_from_path"):
        found(tmp_path)


def test_resuming_from_an_incomplete_checkpoint_by_name_is_refused(tmp_path):
    folder = save(tmp_path, 2, finish=False)
    config = OmegaConf.create({"trainer": {"resume_mode": "resume_path", "resume_from_path": str(folder)}})
    with pytest.raises(ValueError, match=r"trainer\.resume_from_path=.*global_step_2: its writing was interrupted"):
        checkpoints.refuse_incomplete(config)
    checkpoints.complete(folder, {})
    checkpoints.refuse_incomplete(config)
    config.trainer = {"resume_mode": "auto", "resume_from_path": None}
    checkpoints.refuse_incomplete(config)


class Killed(Exception):
    pass


class Trainer:
    """verl's trainer as far as saving goes: its workers' manager of checkpoints is verl's own, everything is a file."""

    def __init__(self, run, killed_before: str | None = None, use_critic: bool = False, **settings):
        keys = ("max_actor_ckpt_to_keep", "max_critic_ckpt_to_keep")
        config = {"default_local_dir": str(run), "remove_previous_ckpt_in_save": False, **dict.fromkeys(keys)}
        self.config = OmegaConf.create({"trainer": config | settings, "actor_rollout_ref": {"actor": {}}})
        OmegaConf.set_struct(self.config, True)
        self.checkpoint_callback = SimpleNamespace(on_save=lambda **_: self._write("callback"))
        self.use_critic = use_critic
        self.killed_before = killed_before
        self.global_steps = 0
        self.manager = BaseCheckpointManager.__new__(BaseCheckpointManager)
        self.manager.previous_saved_paths = []

    def _write(self, what: str):
        if what == self.killed_before:
            raise Killed

    def save(self):
        self.global_steps += 1
        in_verl.save_atomically(self._verls_own, self, (), {})

    def _verls_own(self):
        run, keep = self.config.trainer.default_local_dir, self.config.trainer.max_actor_ckpt_to_keep
        folder = f"{run}/global_step_{self.global_steps}"
        self.manager.ensure_checkpoint_capacity(keep)
        self._write("actor")
        Path(f"{folder}/actor").mkdir(parents=True)
        Path(f"{folder}/actor/model.pt").write_bytes(b"weights")
        self.manager.register_checkpoint(f"{folder}/actor", keep)
        self._write("data.pt")
        Path(f"{folder}/data.pt").write_bytes(b"order")
        with Path(f"{run}/{TRACKER}").open("w") as file:
            self._write("tracker")
            file.write(str(self.global_steps))
        self.checkpoint_callback.on_save()


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_as_many_checkpoints_are_kept_as_asked_for(tmp_path, keep):
    trainer = Trainer(tmp_path, max_actor_ckpt_to_keep=keep)
    for _ in range(5):
        trainer.save()
    assert steps(tmp_path) == [f"global_step_{step}" for step in range(6 - keep, 6)]
    assert len(list(tmp_path.glob("global_step_*"))) == keep
    assert trainer.config.trainer.max_actor_ckpt_to_keep == keep


def test_checkpoints_of_the_process_that_was_killed_are_deleted_too(tmp_path):
    for step in (2, 4):
        first = Trainer(tmp_path, max_actor_ckpt_to_keep=1)
        first.global_steps = step
        first.save()
    assert steps(tmp_path) == ["global_step_5"]


def test_verls_old_key_keeps_one(tmp_path):
    trainer = Trainer(tmp_path, remove_previous_ckpt_in_save=True)
    trainer.save(), trainer.save()
    assert steps(tmp_path) == ["global_step_2"]
    assert trainer.config.trainer.remove_previous_ckpt_in_save is True


@pytest.mark.parametrize(("critic", "kept"), [(None, 4), (3, 3)])
def test_a_critic_of_which_more_is_kept_keeps_its_checkpoints(tmp_path, critic, kept):
    trainer = Trainer(tmp_path, use_critic=True, max_actor_ckpt_to_keep=1, max_critic_ckpt_to_keep=critic)
    for _ in range(4):
        trainer.save()
    assert len(steps(tmp_path)) == kept


@pytest.mark.parametrize("keep", [None, 1, 2])
@pytest.mark.parametrize("moment", ["actor", "data.pt", "tracker", "callback"])
def test_a_run_killed_at_any_moment_of_its_third_save_has_a_whole_checkpoint(tmp_path, keep, moment):
    trainer = Trainer(tmp_path, max_actor_ckpt_to_keep=keep)
    trainer.save(), trainer.save()
    trainer.killed_before = moment
    with pytest.raises(Killed):
        trainer.save()
    last = 3 if moment == "callback" else 2  # the user's callback sees a whole checkpoint
    assert found(tmp_path) == f"global_step_{last}"
    assert trainer.config.trainer.max_actor_ckpt_to_keep == keep

    resumed = Trainer(tmp_path, max_actor_ckpt_to_keep=keep)
    resumed.global_steps = last
    resumed.save()
    assert found(tmp_path) == f"global_step_{last + 1}"
    assert checkpoints.incomplete(tmp_path) == {}


def test_checkpoints_that_are_saved_asynchronously_are_left_to_verl(tmp_path):
    trainer = Trainer(tmp_path)
    OmegaConf.set_struct(trainer.config, False)
    trainer.config.actor_rollout_ref.actor.checkpoint = {"async_save": True}
    trainer.save()
    assert not (tmp_path / "global_step_1" / checkpoints.MARK).exists()
    assert (tmp_path / TRACKER).read_text() == "1"


def test_what_the_step_has_to_log_is_saved_with_its_checkpoint_and_counts_nothing_twice(tmp_path, monkeypatch):
    monkeypatch.setattr(in_verl, "fault_metrics", lambda trainer, batch: {"reward/defaulted": batch})

    class Counting(Trainer):
        timing_raw: ClassVar = {"gen": 1.0}
        steps_per_epoch = 4
        _rollout_moe_lb_metrics_accumulator: ClassVar = [0]

        def _compute_metrics(self, batch, metrics, timing_raw, global_steps, epoch):
            self._rollout_moe_lb_metrics_accumulator[0] += 1
            metrics |= {"batch": batch, "epoch": epoch, "odd": np.float32("nan"), "array": np.float32(0.5)}
            metrics["fast"] = float(0 <= timing_raw["step"] < 60)

    trainer = Counting(tmp_path)
    metrics = {"loss": 2.0}
    in_verl.note_step(lambda metrics, timing_raw: 7, trainer, (metrics, {}), {})
    trainer.save()
    (folder,) = checkpoints.completed(tmp_path)
    saved = checkpoints.metrics(folder)
    assert saved == {"loss": 2.0, "reward/defaulted": 7, "batch": 7, "epoch": 0, "array": 0.5, "fast": 1.0}
    assert metrics == {"loss": 2.0, "reward/defaulted": 7}
    assert trainer._rollout_moe_lb_metrics_accumulator == [0]
    json.dumps(saved)
