"""What all commands have in common."""

import subprocess
import sys
import tomllib

import pytest
from typer.testing import CliRunner

from balanced_agg.commands.cli import ANALYSIS, app
from tests.commands.inspect.rollouts import rows_of, write_parquet
from tests.composed import ROOT
from tests.runs.made_runs import make_run


def test_the_modules_of_the_extra_are_those_of_the_project_file():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    packages = {"pyyaml": "yaml"}
    names = project["optional-dependencies"]["analysis"]
    assert {packages.get(name, name.replace("-", "_")) for name in names} == ANALYSIS


EXTRA, ENVIRONMENT = "extra", "environment"
REMEDIES = {EXTRA: f"pip install '{ROOT}[analysis]'", ENVIRONMENT: "run it in the environment that has verl"}


@pytest.mark.slow  # a process each
@pytest.mark.parametrize(
    ("command", "module", "remedy"),
    [
        (["compare", "RUN"], "yaml", EXTRA),
        (["compare", "RUN", "--out", "report"], "matplotlib", EXTRA),
        (["inspect", "rollouts.parquet"], "pyarrow", EXTRA),
        (["inspect", "rollouts.parquet", "--out", "picture.png"], "matplotlib", EXTRA),
        (["workspace", "team/project", "--dry-run"], "wandb_workspaces", EXTRA),
        (["prepare", "math_500"], "pyarrow", EXTRA),
        (["inspect", "rollouts.parquet"], "torch", ENVIRONMENT),
        (["evaluate", "model"], "omegaconf", ENVIRONMENT),
    ],
)
def test_a_command_that_lacks_a_module_says_in_one_line_where_it_comes_from(tmp_path, command, module, remedy):
    write_parquet(tmp_path / "rollouts.parquet", rows_of())
    run = make_run(tmp_path)
    without = f"import sys; sys.modules[{module!r}] = None; from balanced_agg.commands.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", without, *(run if word == "RUN" else word for word in command)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (1, f"balanced-agg {command[0]} needs {module}: {REMEDIES[remedy]}\n")


def test_any_other_missing_module_is_an_error_of_ours(monkeypatch):
    monkeypatch.setitem(sys.modules, "balanced_agg.commands.sweep", None)
    with pytest.raises(ModuleNotFoundError):
        CliRunner().invoke(app, ["sweep", "r", "--aggregations", "a", "--seeds", "1"], catch_exceptions=False)
