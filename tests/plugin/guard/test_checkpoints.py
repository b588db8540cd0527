"""A checkpoint is whole when its mark says so and agrees with the files beside it."""

import json
import shutil

import pytest

from balanced_agg.plugin.guard import checkpoints


def save(run, step: int, finish: bool = True):
    folder = run / f"global_step_{step}"
    checkpoints.begin(folder)
    (folder / "actor").mkdir()
    (folder / "actor/model.pt").write_bytes(b"weights" * step)
    (folder / "data.pt").write_bytes(b"order")
    if finish:
        checkpoints.complete(folder, {"loss": float(step)})
    return folder


def steps(run) -> list[str]:
    return [folder.name for folder in checkpoints.completed(run)]


def test_a_whole_checkpoint_is_found_with_what_its_step_had_to_log(tmp_path):
    folder = save(tmp_path, 2)
    assert checkpoints.completed(tmp_path) == [folder]
    assert checkpoints.metrics(folder) == {"loss": 2.0}
    assert checkpoints.incomplete(tmp_path) == {}


def delete(folder):
    (folder / "actor/model.pt").unlink()


def cut(folder):
    (folder / "actor/model.pt").write_bytes(b"weigh")


def delete_actor(folder):
    shutil.rmtree(folder / "actor")


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (delete, "actor/model.pt is missing"),
        (cut, "actor/model.pt has 5 bytes instead of 14"),
        (delete_actor, "actor/model.pt is missing"),
    ],
)
def test_a_checkpoint_whose_files_disagree_with_its_mark_is_torn_and_the_one_before_it_counts(tmp_path, damage, reason):
    save(tmp_path, 1)
    damage(save(tmp_path, 2))
    assert steps(tmp_path) == ["global_step_1"]
    assert checkpoints.incomplete(tmp_path) == {"global_step_2": reason}


def test_a_checkpoint_whose_writing_was_cut_short_is_torn_wherever_that_was(tmp_path):
    save(tmp_path, 1)
    folder = save(tmp_path, 2, finish=False)
    for path in (None, folder / "data.pt", folder / "actor"):
        if path is not None:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        assert steps(tmp_path) == ["global_step_1"]
        assert checkpoints.incomplete(tmp_path) == {"global_step_2": "its writing was interrupted"}


def test_a_torn_checkpoint_that_is_written_again_is_whole_and_has_nothing_of_the_old_one(tmp_path):
    (save(tmp_path, 2, finish=False) / "actor/rank_7.pt").touch()
    folder = save(tmp_path, 2)
    assert steps(tmp_path) == ["global_step_2"]
    assert not (folder / "actor/rank_7.pt").exists()


def test_a_whole_checkpoint_that_is_written_again_is_torn_until_it_is_finished(tmp_path):
    save(tmp_path, 2)
    save(tmp_path, 2, finish=False)
    assert steps(tmp_path) == []


def test_files_that_are_added_later_do_no_harm(tmp_path):
    (save(tmp_path, 1) / "merged.safetensors").touch()
    assert steps(tmp_path) == ["global_step_1"]


@pytest.mark.parametrize("marked", [True, False])
def test_weights_that_are_merged_into_a_checkpoint_do_no_harm(tmp_path, marked):
    folder = save(tmp_path, 1, finish=False)
    (folder / "actor/huggingface").mkdir()
    config = folder / "actor/huggingface/config.json"
    config.write_text("{}")
    checkpoints.complete(folder, {})
    if marked:  # as an earlier version of ours has marked it
        mark = json.loads((folder / checkpoints.MARK).read_text())
        mark["files"]["actor/huggingface/config.json"] = 2
        (folder / checkpoints.MARK).write_text(json.dumps(mark))
    config.write_text('{"transformers_version": "5.10.4"}')
    (folder / "actor/huggingface/model.safetensors").touch()
    assert steps(tmp_path) == ["global_step_1"]


def test_the_last_checkpoint_is_the_one_written_last_not_the_one_of_the_highest_step(tmp_path):
    # A run that went on from an older checkpoint by trainer.resume_from_path.
    for step in (10, 20, 15):
        save(tmp_path, step)
    assert steps(tmp_path) == ["global_step_10", "global_step_20", "global_step_15"]


def test_old_checkpoints_go_and_so_does_what_was_cut_short(tmp_path):
    for step in (8, 9, 10):
        save(tmp_path, step)
    save(tmp_path, 7, finish=False)
    checkpoints.prune(tmp_path, 2)
    assert sorted(folder.name for folder in tmp_path.iterdir()) == ["global_step_10", "global_step_9"]
    checkpoints.prune(tmp_path, None)
    assert steps(tmp_path) == ["global_step_9", "global_step_10"]


def test_a_deletion_that_is_cut_short_leaves_nothing_that_passes_for_a_checkpoint(tmp_path, monkeypatch):
    save(tmp_path, 1), save(tmp_path, 2)
    monkeypatch.setattr(shutil, "rmtree", lambda *_, **__: None)
    checkpoints.prune(tmp_path, 1)
    assert steps(tmp_path) == ["global_step_2"]


def test_pruning_never_touches_a_checkpoint_that_is_damaged_or_not_marked(tmp_path):
    delete(save(tmp_path, 1))
    (tmp_path / "global_step_2").mkdir()
    save(tmp_path, 3)
    checkpoints.prune(tmp_path, 1)
    assert len(list(tmp_path.iterdir())) == 3


MARKS = {
    "empty": b"",
    "cut": b'{"complete": true, "saved_at": 1',
    "zeros": b"\0" * 100,
    "no text": b"\xff\xfe",
    "thousands of brackets": b"[" * 100_000,
    "a list": b"[]",
    "without its fields": b"{}",
    "complete alone": b'{"complete": true}',
    "other kinds": b'{"complete": true, "saved_at": "now", "files": [], "metrics": null}',
    "a word": b'{"complete": "yes", "saved_at": 1, "files": {}, "metrics": {}}',
    "a directory": None,
}


@pytest.mark.parametrize("content", MARKS.values(), ids=MARKS.keys())
def test_a_mark_that_cannot_be_read_spoils_its_own_checkpoint_and_no_other(content, tmp_path):
    save(tmp_path, 1)
    damaged = save(tmp_path, 2)
    (damaged / checkpoints.MARK).unlink()
    if content is None:
        (damaged / checkpoints.MARK).mkdir()
    else:
        (damaged / checkpoints.MARK).write_bytes(content)
    assert steps(tmp_path) == ["global_step_1"]
    (reason,) = checkpoints.incomplete(tmp_path).values()
    assert str(damaged / checkpoints.MARK) in reason and "\n" not in reason
    save(tmp_path, 3)
    checkpoints.prune(tmp_path, 1)
    assert steps(tmp_path) == ["global_step_3"]
    assert (damaged / "actor/model.pt").exists()  # its weights may be all there
    save(tmp_path, 2)
    assert steps(tmp_path) == ["global_step_3", "global_step_2"]


def test_only_a_folder_with_the_number_of_a_step_is_a_checkpoint(tmp_path):
    save(tmp_path, 1).rename(tmp_path / "global_step_\x1b]0;title\x07")
    save(tmp_path, 2).rename(tmp_path / "global_step_2-evaluation")
    assert checkpoints.incomplete(tmp_path) == {} and steps(tmp_path) == []


def test_a_folder_without_a_mark_is_verls_own_affair(tmp_path):
    (tmp_path / "global_step_4").mkdir()
    assert checkpoints.incomplete_because(tmp_path / "global_step_4") is None
    assert checkpoints.completed(tmp_path) == []
    assert checkpoints.metrics(tmp_path / "global_step_4") == {}


def test_the_mark_is_plain_json(tmp_path):
    mark = json.loads((save(tmp_path, 1) / checkpoints.MARK).read_text())
    assert mark["files"] == {"actor/model.pt": 7, "data.pt": 5}
