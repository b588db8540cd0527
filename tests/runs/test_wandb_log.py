"""wandb's runs are read from its own offline files, and from its server through its own client."""

from types import SimpleNamespace

import pytest
import wandb

from balanced_agg.runs.run import read_runs
from balanced_agg.runs.wandb_log import BLOCK, WandbError, offline_files, read_offline

CONFIG = {
    "run": {"recipe": "arithmetic", "seed": 3, "commit": "abc"},
    "actor_rollout_ref": {"actor": {"loss_agg_mode": "balanced"}},
    "trainer": {"total_training_steps": 5},
}


def record(folder, name, records, config=None):
    """A real offline run of wandb's."""
    settings = wandb.Settings(silent=True, console="off", x_disable_stats=True, x_disable_meta=True)
    with wandb.init(mode="offline", dir=folder, project="p", name=name, config=config, settings=settings) as run:
        for step, data in records:
            run.log(data, step=step)
    wandb.teardown()  # its service has written everything once it has ended
    return offline_files(folder)[-1]


@pytest.fixture(scope="module")
def resumed(tmp_path_factory):
    """A wandb folder with a run of two segments, the second from a checkpoint at step 3; the first spans blocks."""
    folder = tmp_path_factory.mktemp("run")
    long_config = CONFIG | {"padding": "x" * 3 * BLOCK}
    record(folder, "a-balanced-seed3", [(step, {"x": step, "text": "t"}) for step in range(6)], long_config)
    record(folder, "a-balanced-seed3", [(3, {"y": 1, "nan": float("nan")}), (4, {"x": 40}), (5, {"x": 50})], CONFIG)
    return folder


def test_the_segments_of_an_offline_run_are_one_history(resumed):
    (run,) = read_runs([str(resumed / "wandb")])
    steps = {step: {key: value for key, value in logged.items() if key[0] != "_"} for step, logged in run.steps.items()}
    assert steps == {0: {"x": 0}, 1: {"x": 1}, 2: {"x": 2}, 3: {"x": 3, "y": 1}, 4: {"x": 40}, 5: {"x": 50}}
    assert "joined from 2 wandb runs" in run.notes[0]


def test_an_offline_run_is_described_by_its_stored_config(resumed):
    (run,) = read_runs([str(resumed)])
    assert (run.setting, run.mode, run.seed, run.total_steps, run.commit) == ("arithmetic", "balanced", 3, 5, "abc")


def test_one_offline_folder_is_one_segment(resumed):
    first = next(file.parent for file in offline_files(resumed) if read_offline(file).config.get("padding"))
    (run,) = read_runs([str(first)])
    assert run.last_step == 5 and run.steps[5]["x"] == 5 and run.notes == []


def test_a_file_cut_off_in_a_record_gives_what_stands_before(tmp_path):
    file = record(tmp_path, "a-balanced-seed0", [(step, {"x": step}) for step in range(3)])
    complete = read_offline(file)
    content = file.read_bytes()
    file.write_bytes(content[: content.rindex(b"_step")])
    incomplete = read_offline(file)
    assert incomplete.records == complete.records[:2]
    assert "incomplete" in incomplete.notes[0] and not complete.notes


def test_a_flipped_bit_is_noticed(tmp_path):
    file = record(tmp_path, "a-balanced-seed0", [(0, {"some_metric": 1})])
    content = file.read_bytes()
    file.write_bytes(content.replace(b"some_metric", b"some_metrik"))
    assert "incomplete" in read_offline(file).notes[0]


def test_a_run_that_has_written_nothing_yet_is_refused_alone_and_passed_over_beside_others(tmp_path):
    file = record(tmp_path, "a-balanced-seed0", [(0, {"x": 1})])
    started = tmp_path / "wandb/offline-run-29990101_000000-new/run-new.wandb"
    started.parent.mkdir()
    started.write_bytes(file.read_bytes()[:7])
    (run,) = read_runs([str(tmp_path)])
    assert run.series("x") == {0: 1}
    with pytest.raises(ValueError, match=r"written nothing yet to run-new.wandb"):
        read_runs([str(started.parent)])


def test_a_file_of_another_kind_is_refused(tmp_path):
    (tmp_path / "run-x.wandb").write_text("hello")
    with pytest.raises(ValueError, match=r"run-x.wandb does not begin with :W&B"):
        read_runs([str(tmp_path)])


class Api:
    """Stands in for wandb.Api()."""

    def __init__(self, *runs, error=None):
        self.by_path, self.error = {f"me/project/{run.id}": run for run in runs}, error

    def runs(self, path):
        if self.error:
            raise self.error
        assert path == "me/project"
        return list(self.by_path.values())

    def run(self, path):
        return self.by_path[path]


@pytest.fixture
def serve(monkeypatch):
    """Let wandb's server have these runs, or answer with an error."""
    return lambda *runs, **options: monkeypatch.setattr(wandb, "Api", lambda: Api(*runs, **options))


def online(run_id, name, config, rows, created_at="2026-01-01T00:00:00"):
    rows = [{"_step": step, **data} for step, data in rows]
    return SimpleNamespace(id=run_id, name=name, config=config, created_at=created_at, scan_history=lambda: rows)


def test_a_wandb_project_is_all_its_runs_and_a_run_path_one(serve):
    serve(online("r1", "a-balanced-seed0", {}, [(0, {"x": 1})]), online("r2", "b", CONFIG, [(0, {"x": 2})]))
    assert [(run.setting, run.seed) for run in read_runs(["me/project"])] == [("a", 0), ("arithmetic", 3)]
    (run,) = read_runs(["me/project/r2"])
    assert run.seed == 3 and run.series("x") == {0: 2}


def test_online_runs_of_one_name_are_joined_in_the_order_they_were_made(serve):
    late = online("r2", "a-balanced-seed0", {}, [(1, {"x": 10})], created_at="2026-01-02T00:00:00")
    early = online("r1", "a-balanced-seed0", {}, [(0, {"x": 0}), (1, {"x": 1}), (2, {"x": 2})])
    serve(late, early)
    (run,) = read_runs(["me/project"])
    assert run.series("x") == {0: 0, 1: 10}
    assert run.notes == ["joined from 2 wandb runs: r1, r2"]


@pytest.mark.parametrize("key", ["0123456789abcdef" * 2 + "01234567", "wandb_v1_" + "aB3_" * 19])
def test_a_failure_is_one_line_without_the_key(key, monkeypatch, serve):
    monkeypatch.setenv("WANDB_API_KEY", key)
    serve(error=wandb.errors.CommError(f"401 for {key}\nat https://x?key={key}"))
    with pytest.raises(WandbError) as caught:
        read_runs(["me/project"])
    assert str(caught.value) == "wandb could not read me/project: 401 for …"
    assert caught.value.__suppress_context__


def test_an_empty_project_is_refused(serve):
    serve()
    with pytest.raises(ValueError, match="has no runs"):
        read_runs(["me/project"])
