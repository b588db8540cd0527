"""verl's logger with a wandb server that is not there."""

import os
import subprocess
import sys

import pytest
import wandb
from verl.utils.tracking import Tracking


@pytest.fixture
def init(monkeypatch):
    """wandb.init as it is called: the mode of each call, the first of which raises what is put in ``errors``."""
    monkeypatch.setenv("WANDB_MODE", "online")
    calls, errors = [], []

    def record(**_):
        calls.append(os.environ["WANDB_MODE"])
        if errors:
            raise errors.pop()

    monkeypatch.setattr(wandb, "init", record)
    monkeypatch.setattr(wandb, "teardown", lambda: calls.append("teardown"))
    monkeypatch.setattr(wandb, "finish", lambda **_: None)
    return calls, errors


def test_a_server_that_is_reached_is_used(init):
    Tracking("project", "experiment", ["wandb"])
    assert init[0] == ["online"]


def test_a_server_that_does_not_answer_leaves_the_run_offline_with_a_message(init, caplog):
    calls, errors = init
    errors.append(wandb.errors.CommError("Timed out while retrying: connection refused\nConsider …"))
    Tracking("project", "experiment", ["wandb"])
    assert calls == ["online", "teardown", "offline"]
    (record,) = caplog.records
    assert "wandb sync" in record.message and "connection refused" in record.message


def test_what_the_server_refuses_stops_the_run(init):
    init[1].append(wandb.errors.CommError("Error 404: entity not found"))
    with pytest.raises(wandb.errors.CommError, match="404"):
        Tracking("project", "experiment", ["wandb"])


RUN = """
from verl.utils.tracking import Tracking
tracking = Tracking("project", "experiment", ["wandb"])
tracking.log({"value": 1}, 1)
tracking.finish()
"""


@pytest.mark.slow
def test_a_real_client_without_a_server_writes_an_offline_run(tmp_path):
    unreachable = {"WANDB_MODE": "online", "WANDB_BASE_URL": "http://127.0.0.1:9", "WANDB_API_KEY": "0" * 40}
    env = os.environ | unreachable | {"WANDB_INIT_TIMEOUT": "2", "WANDB_DIR": str(tmp_path)}
    ended = subprocess.run([sys.executable, "-c", RUN], env=env, capture_output=True, text=True, timeout=200)
    assert ended.returncode == 0, ended.stderr
    assert "wandb cannot be reached" in ended.stderr
    assert list(tmp_path.glob("wandb/offline-run-*/*.wandb"))
