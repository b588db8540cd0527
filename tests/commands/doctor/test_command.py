"""The command: exit codes, output, and one real report."""

import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from balanced_agg.commands.cli import app
from balanced_agg.commands.doctor import command
from balanced_agg.commands.doctor.check import FAIL, OK, WARN, Check
from tests.composed import ROOT

KEY = "0123456789abcdef0123456789abcdef01234567"
CHECKS = [Check("torch", OK, "2.13.0"), Check("memory", WARN, "7 GB", "end programs"), Check("GPUs", FAIL, "none", "x")]


@pytest.fixture
def report_of(monkeypatch):
    """Run the command on given checks instead of judging this machine."""

    def run(checks, as_json=False):
        monkeypatch.setattr(command, "judge", lambda arguments: checks)
        return command.run(None, [], as_json)

    return run


def test_only_a_failure_makes_the_exit_code_1(report_of):
    assert (report_of(CHECKS[:2]), report_of(CHECKS)) == (0, 1)


def test_off_a_terminal_each_check_is_a_line_that_starts_with_its_status(report_of, capsys):
    report_of(CHECKS)
    *lines, counts = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["ok", "warn", "FAIL"]
    assert "7 GB -> end programs" in lines[1]
    assert counts == "1 ok, 1 warn, 1 FAIL"


def test_json_is_alone_on_stdout(report_of, capsys):
    report_of(CHECKS, as_json=True)
    found = json.loads(capsys.readouterr().out)
    assert found[2] == {"check": "GPUs", "status": "fail", "detail": "none", "remedy": "x"}


def test_a_working_directory_that_is_none_is_a_usage_error(monkeypatch, tmp_path):
    monkeypatch.setenv("BALANCED_AGG_ROOT", f"{tmp_path}/missing")
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 2 and "missing is no folder" in result.stderr


def test_an_unknown_recipe_is_a_usage_error_that_lists_those_there_are():
    result = CliRunner().invoke(app, ["doctor", "nope"])
    assert (result.exit_code, result.stdout) == (2, "")
    assert "arithmetic" in result.stderr and result.stderr.count("\n") == 1


@pytest.fixture
def child(monkeypatch, tmp_path):
    """Let the command start this shell script in place of Python."""

    def write(script: str) -> None:
        python = tmp_path / "python"
        python.write_text(f"#!/bin/sh\n{script}\n")
        python.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(python))

    return write


LINE = '{"check": "torch", "status": "ok", "detail": "2.13.0", "remedy": ""}'


def test_a_recipe_that_does_not_compose_is_a_usage_error(child):
    child(f"""echo '{LINE}'; echo '{{"usage_error": "Could not override x"}}'""")
    result = CliRunner().invoke(app, ["doctor", "arithmetic", "x=1"])
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.endswith("Could not override x\n")


def test_a_crash_is_a_line_behind_those_that_were_there_before_it(child):
    child(f"echo '{LINE}'; echo the last words >&2; exit 3")
    torch, crash = command.judge([])
    assert (torch.detail, crash.status) == ("2.13.0", FAIL)
    assert crash.detail == "the process ended with exit status 3: the last words"


def test_a_hang_is_a_line_too(child, monkeypatch):
    monkeypatch.setattr(command, "SECONDS", 0.5)
    child(f"echo '{LINE}'; exec sleep 60")
    torch, hang = command.judge([])
    assert torch.detail == "2.13.0" and hang.status == FAIL and "no answer within 0.5 s" in hang.detail


@pytest.mark.slow
def test_a_real_report_finds_the_plugin_active_and_shows_no_key(tmp_path):
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "WANDB_API_KEY": KEY, "RAY_TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "balanced_agg",
            "doctor",
            "arithmetic",
            "ray_kwargs.ray_init.num_cpus=3",
            "--json",
        ],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    found = {check["check"]: check for check in json.loads(done.stdout)}
    assert found["verl plugin"]["status"] == "ok"
    assert found["verl"]["status"] == "ok"
    assert found["platform"]["status"] == "ok"
    assert found["refused: ray_cpus"]["status"] == "fail"
    assert "not logged in" not in found["wandb"]["detail"]
    assert done.returncode == 1
    assert KEY not in done.stdout + done.stderr
