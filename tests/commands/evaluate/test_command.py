"""`balanced-agg evaluate` passes on how the validation run ends, and deletes nothing that one before it has left."""

import subprocess
from types import SimpleNamespace

from typer.testing import CliRunner

from balanced_agg.commands.cli import app


def test_samples_of_an_earlier_evaluation_stay_and_a_failed_run_passes_on_its_exit_code(tmp_path, monkeypatch):
    (tmp_path / "model").mkdir()
    (tmp_path / "model/config.json").touch()
    samples = tmp_path / "model-evaluation/samples"
    samples.mkdir(parents=True)
    (samples / "0.jsonl").write_text("hours of work")
    commands = []
    monkeypatch.setattr(
        subprocess, "run", lambda command, **_: commands.append(command) or SimpleNamespace(returncode=3)
    )
    result = CliRunner().invoke(app, ["evaluate", str(tmp_path / "model"), "--recipe", "arithmetic"])
    assert result.exit_code == 3 and "failed with exit code 3" in result.stderr
    assert f"actor_rollout_ref.model.path={tmp_path}/model" in commands[0]
    (kept,) = samples.parent.glob("samples-*/0.jsonl")
    assert kept.read_text() == "hours of work" and not samples.exists()
