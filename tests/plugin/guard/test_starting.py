"""A process that Ray cannot start is found in Ray's own logs, with what it said."""

import signal
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
import ray

from balanced_agg.plugin.guard import starting
from balanced_agg.plugin.guard.starting import DIED, died_at_start, started

FAILED = (
    "[2026-01-01 00:01:00,000 E 1 1] (raylet) worker_pool.cc:601: Some workers of the worker process(7) have not "
    "registered within the timeout. The process is dead, probably it crashed during start.\n"
)
SLOW = FAILED.replace("The process is dead, probably it crashed", "The process is still alive, probably it's hanging")


def logs(folder: Path, said: str, errors: str = "") -> Path:
    (folder / "raylet.out").write_text(f"[2026-01-01 00:00:00,000 I 1 1] (raylet) starts\n{said}")
    (folder / "raylet.err").write_text(errors)
    return folder


def test_a_process_that_died_before_it_joined_is_found_with_its_last_words(tmp_path):
    cannot = "bash: line 1: /tmp/python: cannot execute: required file not found"
    assert died_at_start(logs(tmp_path, FAILED, "a warning\n" * 50 + cannot)).endswith(f"\n{cannot}")
    assert "raylet.out" in died_at_start(logs(tmp_path, FAILED))


def test_one_that_is_slow_is_left_to_ray(tmp_path):
    assert died_at_start(logs(tmp_path, "")) is None
    assert died_at_start(logs(tmp_path, SLOW, "a warning\n")) is None


def test_a_process_has_started_once_it_has_a_log_of_the_job(tmp_path):
    (tmp_path / "worker-0a-ffffffff-1.err").touch()  # one that waits for any job
    assert not started(tmp_path, "01000000")
    (tmp_path / "worker-0b-01000000-2.err").touch()
    assert started(tmp_path, "01000000")


def test_the_driver_ends_with_what_the_process_said(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(starting, "starts_ray", lambda config: True)
    monkeypatch.setattr(starting, "_logs", lambda: logs(tmp_path, FAILED, "no interpreter"))
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    monkeypatch.setattr(ray, "get_runtime_context", lambda: SimpleNamespace(get_job_id=lambda: "01000000"))
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    before = signal.getsignal(starting.GIVE_UP)
    try:
        with pytest.raises(KeyboardInterrupt) as ended:
            starting.watch(None)
            threading.Event().wait(60)
    finally:
        signal.signal(starting.GIVE_UP, before)
    sys.excepthook(ended.type, ended.value, ended.tb)
    assert "Ray cannot start the run's processes:\nno interpreter" in capsys.readouterr().err


def test_rays_own_words_are_these():
    raylet = (Path(ray.__file__).parent / "core/src/ray/raylet/raylet").read_bytes()
    assert all(part.encode() in raylet for part in DIED)
