"""`balanced-agg evaluate` passes on how the validation run ends, and deletes nothing that one before it has left."""

import json
import subprocess
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from balanced_agg.commands.cli import app
from balanced_agg.commands.overrides import override


def table_only(results, *overrides: str) -> SimpleNamespace:
    arguments = ["evaluate", str(results.with_name("model")), "--recipe", "arithmetic", "--table-only", *overrides]
    return CliRunner().invoke(app, arguments)


@pytest.mark.parametrize("named", [False, True])
def test_the_table_is_made_anew_without_a_run(evaluated, monkeypatch, named):
    monkeypatch.setattr(subprocess, "Popen", None)
    overrides = []
    if named:
        evaluated = evaluated.rename(evaluated.with_name("jörg's, (elsewhere)"))
        overrides = [f"run.dir={evaluated}"]
    assert table_only(evaluated, *overrides).exit_code == 0
    benchmark = json.loads((evaluated / "evaluation.json").read_text())["benchmarks"]["arithmetic"]
    assert (benchmark["mean@k"]["value"], benchmark["response_tokens"]["value"]) == (1.0, 9.0)


def test_samples_that_make_no_table_stay_and_are_named(evaluated):
    file = evaluated / "samples/0.jsonl"
    file.write_text(text := file.read_text().replace("arithmetic", "unknown"))
    result = table_only(evaluated)
    assert result.exit_code == 1 and f"the samples stay in {file.parent}" in result.stderr.replace("\n", "")
    assert file.read_text() == text
    file.unlink()
    assert table_only(evaluated).exit_code == 2


def test_samples_of_an_earlier_evaluation_stay_and_a_failed_run_passes_on_its_exit_code(tmp_path, monkeypatch):
    model = tmp_path / "jörg's (model), [a=b]"
    model.mkdir()
    (model / "config.json").touch()
    samples = tmp_path / f"{model.name}-evaluation/samples"
    samples.mkdir(parents=True)
    (samples / "0.jsonl").write_text("hours of work")
    commands = []
    ended = SimpleNamespace(wait=lambda: 3)
    monkeypatch.setattr(subprocess, "Popen", lambda command, **_: commands.append(command) or ended)
    result = CliRunner().invoke(app, ["evaluate", str(model), "--recipe", "arithmetic"])
    assert result.exit_code == 3 and "failed with exit code 3" in result.stderr
    assert {override("actor_rollout_ref.model.path", model), override("run.dir", samples.parent)} < {*commands[0]}
    (kept,) = samples.parent.glob("samples-*/0.jsonl")
    assert kept.read_text() == "hours of work" and not samples.exists()
