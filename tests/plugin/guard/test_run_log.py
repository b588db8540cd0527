"""verl's file log of a resumed run has each step once, up to the checkpoint as it was, from there on anew."""

import contextvars
import json
from types import SimpleNamespace

import pytest
import verl.utils.tracking
from omegaconf import OmegaConf
from verl.utils.tracking import Tracking

from balanced_agg.plugin.guard import loggers


@pytest.fixture
def log(tmp_path, monkeypatch):
    path = tmp_path / "metrics.jsonl"
    monkeypatch.setenv("VERL_FILE_LOGGER_PATH", str(path))
    return path


def run(
    *records: tuple[int, dict], resumes_from: int | None = 0, checkpoint: dict | None = None, continues: bool = True
) -> None:
    def log_them():
        loggers._resumed_from.set(loggers.ResumedFrom(resumes_from, checkpoint or {}, continues))
        tracking = Tracking("project", "experiment", ["file"])
        for step, data in records:
            tracking.log(data, step)
        tracking.finish()

    contextvars.copy_context().run(log_them)


def steps(*numbers: int) -> list[tuple[int, dict]]:
    return [(step, {"loss": step}) for step in numbers]


def logged(log) -> list[tuple[int, dict]]:
    return [(record["step"], record["data"]) for record in map(json.loads, log.read_text().splitlines())]


def test_a_resumed_run_keeps_its_log_up_to_the_checkpoint_and_has_no_step_twice(log):
    run(*steps(0, 1, 2, 3, 4))
    run((2, {"accuracy": 0.5}), (3, {"loss": 30}), resumes_from=2)
    assert logged(log) == [*steps(0, 1), (2, {"loss": 2, "accuracy": 0.5}), (3, {"loss": 30})]


def test_without_a_validation_the_first_record_is_of_the_next_step_and_nothing_of_the_lost_one_stays(log):
    run(*steps(1, 2), (3, {"loss": 3, "accuracy": 0.5}))
    run((3, {"loss": 30}), resumes_from=2)
    assert logged(log) == [*steps(1, 2), (3, {"loss": 30})]


def test_a_step_that_was_saved_and_never_logged_is_logged_from_its_checkpoint(log):
    run(*steps(0, 1))
    run((3, {"loss": 3}), resumes_from=2, checkpoint={"loss": 2})
    assert logged(log) == steps(0, 1, 2, 3)


def test_a_step_that_was_logged_keeps_what_was_logged(log):
    run(*steps(1), (2, {"loss": 2, "seconds": 9}))
    run((3, {"loss": 3}), resumes_from=2, checkpoint={"loss": 2, "seconds": 5})
    assert logged(log)[1] == (2, {"loss": 2, "seconds": 9})


def test_a_run_that_starts_anew_keeps_nothing_but_the_validation_before_it(log):
    run((0, {"accuracy": 0.25}), *steps(1, 2))
    run((0, {"accuracy": 0.5}), *steps(1), resumes_from=0)
    assert logged(log) == [(0, {"accuracy": 0.5}), *steps(1)]


def others(log) -> list[bytes]:
    return [path.read_bytes() for path in log.parent.glob("*.jsonl") if path != log]


@pytest.mark.parametrize("resumes_from", [0, 1])
def test_what_is_cut_off_and_not_trained_again_is_kept_under_another_name(log, resumes_from):
    run(*steps(0, 1, 2, 3))
    before = log.read_bytes()
    run(*steps(resumes_from + 1), resumes_from=resumes_from, continues=False)
    assert logged(log) == steps(*range(resumes_from + 2))
    assert others(log) == [before]


def test_a_run_that_continues_or_cuts_nothing_off_leaves_no_other_file(log):
    run(*steps(0), continues=False)
    run(*steps(0, 1, 2), continues=False)
    run(*steps(2), resumes_from=1, continues=True)
    assert others(log) == []


@pytest.mark.parametrize(
    ("mode", "step", "continues"),
    [("auto", 2, True), ("auto", 0, False), ("disable", 0, False), ("resume_path", 2, False)],
)
def test_a_run_continues_only_from_its_last_checkpoint(tmp_path, mode, step, continues):
    config = {
        "resume_mode": mode,
        "default_local_dir": str(tmp_path),
        "resume_from_path": f"{tmp_path}/global_step_2//",
    }
    trainer = SimpleNamespace(config=OmegaConf.create({"trainer": config}), global_steps=step)

    def load():
        assert mode != "resume_path" or trainer.config.trainer.resume_from_path == f"{tmp_path}/global_step_2"

    def noted():
        loggers.note_resumed_step(load, trainer, (), {})
        return loggers._resumed_from.get()

    assert contextvars.copy_context().run(noted) == loggers.ResumedFrom(step, {}, continues)


def test_a_run_that_is_killed_before_its_first_record_has_cut_its_log_and_kept_what_its_checkpoint_knew(log):
    run(*steps(1))
    run(resumes_from=2, checkpoint={"loss": 2})
    run((4, {"loss": 4}), resumes_from=3, checkpoint={"loss": 3})
    assert logged(log) == steps(1, 2, 3, 4)


def test_a_log_without_a_record_has_the_step_of_the_checkpoint(log):
    run()
    assert log.read_bytes() == b""
    run(*steps(2), resumes_from=1, checkpoint={"loss": 1})
    assert logged(log) == steps(1, 2)


@pytest.mark.parametrize("cut", range(1, 12))
def test_a_line_that_a_killed_run_left_half_written_spoils_no_other(log, cut):
    run(*steps(0, 1))
    log.write_bytes(log.read_bytes()[:-cut])
    run(*steps(1, 2), resumes_from=0)
    assert logged(log) == steps(0, 1, 2)


def test_a_log_of_a_trainer_that_says_nothing_about_checkpoints_keeps_what_its_first_record_does_not_supersede(log):
    run(*steps(0, 1, 2))
    run(*steps(2, 3), resumes_from=None)
    assert logged(log) == steps(0, 1, 2, 3)


def test_values_that_are_no_numbers_stay_as_they_were(log):
    run((1, {"loss": float("nan"), "note": "text"}))
    run(*steps(2), resumes_from=1)
    assert logged(log)[0] == (1, {"loss": None, "note": "text"})


def test_a_file_that_is_no_log_is_refused_and_left_alone(log):
    log.write_text('{"prompt": "1+1"}\n')
    with pytest.raises(ValueError, match="is no record of verl's file logger"):
        run(*steps(1))
    assert log.read_text() == '{"prompt": "1+1"}\n'


def test_verls_own_open_is_back_when_the_logger_is_made(log):
    run(*steps(0))
    assert not hasattr(verl.utils.tracking, "open")
