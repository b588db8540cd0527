"""A run is read from whatever the user names, and says the same whichever logger wrote it."""

import pytest
from torch.utils.tensorboard import SummaryWriter

from balanced_agg.runs.run import read_runs

from .made_runs import ACCURACY, make_run, write_config, write_log


def read_one(path):
    (run,) = read_runs([str(path)])
    return run


def write_events(folder, records, purge_step=None):
    with SummaryWriter(str(folder), purge_step=purge_step) as writer:
        for step, data in records:
            for key, value in data.items():
                writer.add_scalar(key, value, step)


def test_a_run_folder_is_described_by_the_config_beside_its_log(tmp_path):
    run = read_one(make_run(tmp_path / "renamed", "seq-mean-token-mean", seed=7))
    assert (run.setting, run.mode, run.seed) == ("arithmetic", "seq-mean-token-mean", 7)
    assert run.name == "arithmetic-seq-mean-token-mean-seed7"
    assert run.total_steps == 4 and run.last_step == 4 and run.last_validation == 4


def test_a_log_file_is_the_same_run_as_its_folder(tmp_path):
    folder = make_run(tmp_path)
    assert read_one(f"{folder}/metrics.jsonl").steps == read_one(folder).steps


def test_a_log_file_without_a_config_is_called_by_its_name(tmp_path):
    run = read_one(write_log(tmp_path / "arithmetic-balanced-seed3.jsonl", [(0, {ACCURACY: 0.5})]))
    assert (run.setting, run.mode, run.seed, run.config) == ("arithmetic", "balanced", 3, None)


def test_tensorboard_and_jsonl_of_one_run_agree(tmp_path):
    records = [
        (0, {ACCURACY: 0.5}),
        (1, {"critic/score/mean": 0.25}),
        (2, {"critic/score/mean": 0.75, ACCURACY: 0.625}),
    ]
    write_events(tmp_path / "a-balanced-seed0", records)
    run = read_one(tmp_path / "a-balanced-seed0")
    assert run.steps == read_one(write_log(tmp_path / "a-balanced-seed1.jsonl", records)).steps
    assert (run.setting, run.mode, run.seed) == ("a", "balanced", 0)


def test_a_resumed_tensorboard_run_supersedes_the_steps_behind_its_checkpoint(tmp_path):
    folder = tmp_path / "a-balanced-seed0"
    write_events(folder, [(step, {"x": step}) for step in range(1, 6)])
    # Two files of one second would be ordered by process and count, as TensorBoard itself orders them.
    write_events(folder, [(3, {"y": 1}), (4, {"x": 40})], purge_step=4)
    assert read_one(folder).steps == {1: {"x": 1}, 2: {"x": 2}, 3: {"x": 3, "y": 1}, 4: {"x": 40}}


def test_a_tensorboard_folder_inside_a_run_folder_has_that_runs_config(tmp_path):
    write_config(tmp_path, "balanced", 5)
    write_events(tmp_path / "tensorboard", [(1, {"x": 1})])
    assert read_one(tmp_path / "tensorboard").seed == 5


def test_a_path_given_twice_is_one_run(tmp_path):
    folder = make_run(tmp_path)
    assert len(read_runs([folder, folder])) == 1


def test_two_runs_of_one_setting_mode_and_seed_are_refused_by_name(tmp_path):
    first, second = make_run(tmp_path / "first"), make_run(tmp_path / "second")
    with pytest.raises(ValueError, match=r"first/.* and .*second/.* are both seed 0 of balanced"):
        read_runs([first, second])


@pytest.mark.parametrize("kind", ["missing", "text.txt", "empty"])
def test_what_is_no_run_is_refused_with_what_would_be(tmp_path, kind):
    (tmp_path / "text.txt").write_text("hello")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=f"{kind} .*run folder.*jsonl.*TensorBoard.*wandb.*entity/project"):
        read_runs([str(tmp_path / kind)])


def test_a_mistyped_path_below_a_folder_is_not_taken_for_a_wandb_project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "outputs").mkdir()
    with pytest.raises(ValueError, match="outputs/typo does not exist"):
        read_runs(["outputs/typo"])


def test_a_run_that_cannot_be_named_says_which_path_it_is(tmp_path):
    path = write_log(tmp_path / "x.jsonl", [(1, {})])
    with pytest.raises(ValueError, match=r"x\.jsonl: x: cannot tell its seed"):
        read_runs([str(path)])
