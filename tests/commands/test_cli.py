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
    assert {name.replace("-", "_") for name in project["optional-dependencies"]["analysis"]} == ANALYSIS


@pytest.mark.parametrize(
    ("command", "module"),
    [
        (["compare", "RUN"], "omegaconf"),
        (["compare", "RUN", "--out", "report"], "matplotlib"),
        (["inspect", "rollouts.parquet"], "pyarrow"),
        (["inspect", "rollouts.parquet", "--out", "picture.png"], "matplotlib"),
        (["workspace", "team/project", "--dry-run"], "wandb_workspaces"),
        (["prepare", "math_500"], "pyarrow"),
    ],
    ids=" ".join,
)
def test_a_command_that_lacks_a_module_of_the_extra_says_in_one_line_how_to_install_it(tmp_path, command, module):
    write_parquet(tmp_path / "rollouts.parquet", rows_of())
    run = make_run(tmp_path)
    without = f"import sys; sys.modules[{module!r}] = None; from balanced_agg.commands.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", without, *(run if word == "RUN" else word for word in command)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    said = f"balanced-agg {command[0]} needs {module}: pip install 'balanced-agg[analysis]'\n"
    assert (done.returncode, done.stderr) == (1, said)


def test_any_other_missing_module_is_no_matter_of_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "balanced_agg.commands.sweep", None)
    with pytest.raises(ModuleNotFoundError):
        CliRunner().invoke(app, ["sweep", "r", "--aggregations", "a", "--seeds", "1"], catch_exceptions=False)
