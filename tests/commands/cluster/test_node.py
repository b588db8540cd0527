"""`balanced-agg node` becomes `ray start`, with the token on and the dashboard on the head alone."""

import os
import re
import socket
import subprocess
import sys

import pytest
import ray
from typer.testing import CliRunner, Result

from balanced_agg.commands.cli import app
from balanced_agg.commands.cluster import node
from tests.composed import ROOT


@pytest.fixture(autouse=True)
def token(tmp_path, monkeypatch):
    file = tmp_path / "private/token"
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_MODE", "RAY_USAGE_STATS_ENABLED", "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(file))
    return file


def start(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["node", *arguments])


@pytest.fixture
def become(monkeypatch):
    """The options of `ray start` and the environment that the command would replace itself with."""

    def become(*arguments: str) -> tuple[list[str], dict[str, str]]:
        found = []
        monkeypatch.setattr(os, "execv", lambda _, command: found.append((command, dict(os.environ))))
        become.result = start(*arguments)
        assert become.result.exit_code == 0, become.result.stderr
        ((command, environment),) = found
        assert command[:5] == [sys.executable, "-m", "ray.scripts.scripts", "start", "--block"]
        return command[5:], environment

    return become


@pytest.fixture
def listening():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_the_head_listens_on_its_own_address_and_makes_a_token_that_it_does_not_show(become, token):
    options, environment = become("head", "--node-ip-address=10.1.2.3", "--num-gpus=8")
    assert options == [
        "--head",
        "--node-ip-address=10.1.2.3",
        "--port=6379",
        "--dashboard-host=10.1.2.3",
        "--dashboard-port=8265",
        "--num-gpus=8",
    ]
    assert token.stat().st_mode & 0o777 == 0o600
    said = become.result.stdout
    assert "worker 10.1.2.3:6379" in said and "http://10.1.2.3:8265" in said and str(token) in said
    secret = token.read_text()
    assert secret not in become.result.output + " ".join(options) + " ".join(environment.values())


def test_what_the_head_says_is_what_it_was_told(become):
    become("head", "--node-ip-address", "10.1.2.3", "--port", "7000", "--dashboard-port", "9000")
    said = become.result.stdout
    assert "worker 10.1.2.3:7000" in said and "http://10.1.2.3:9000" in said


def test_the_head_finds_an_address_of_its_own(become):
    options, _ = become("head")
    (address,) = (option.partition("=")[2] for option in options if option.startswith("--node-ip-address"))
    assert address == ray.util.get_node_ip_address() and f"--dashboard-host={address}" in options


def test_a_head_that_ray_would_end_at_once_is_refused(become, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/home/jörg/bin/python")
    become("head", "--node-ip-address=10.1.2.3")
    monkeypatch.setattr(sys, "executable", "/a space/bin/python")
    result = start("head", "--node-ip-address=10.1.2.3")
    assert result.exit_code == 1 and "no head from /a space/bin/python" in result.stderr


def test_a_worker_joins_a_head_that_listens_and_has_no_dashboard(become, token, listening):
    node.auth_token.create()
    options, environment = become("worker", f"127.0.0.1:{listening}", "--num-gpus=8")
    assert options == [f"--address=127.0.0.1:{listening}", "--num-gpus=8"]
    assert token.read_text() not in " ".join(environment.values())


@pytest.mark.parametrize("kind", [["head", "--node-ip-address=10.1.2.3"], ["worker", "HEAD"]], ids=["head", "worker"])
def test_every_process_of_a_node_asks_for_the_token_and_reports_to_no_one(become, kind, listening):
    node.auth_token.create()
    _, environment = become(*(argument.replace("HEAD", f"127.0.0.1:{listening}") for argument in kind))
    assert environment["RAY_AUTH_MODE"] == "token"
    assert environment["RAY_USAGE_STATS_ENABLED"] == "0"
    assert environment["RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"] == "0"


def test_what_the_user_has_exported_stays(become, monkeypatch):
    monkeypatch.setenv("RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S", "20")
    _, environment = become("head", "--node-ip-address=10.1.2.3")
    assert environment["RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"] == "20"


def test_a_worker_gives_up_on_a_head_that_never_listens():
    node.auth_token.create()
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # and never listens
        port = closed.getsockname()[1]
        result = start("worker", f"127.0.0.1:{port}", "--wait", "0.1")
    assert result.exit_code == 1
    assert re.search(f"no head at 127.0.0.1:{port} within 0.1 s: .*refused", result.stderr)


def test_a_token_in_the_environment_is_refused_and_not_repeated(monkeypatch):
    monkeypatch.setenv("RAY_AUTH_TOKEN", "tell-no-one")
    result = start("head", "--node-ip-address=10.1.2.3")
    assert result.exit_code == 1 and "put the token into a file" in result.stderr
    assert "tell-no-one" not in result.output


@pytest.mark.parametrize(("mode", "message"), [(None, "does not exist; copy it from the head"), (0o644, "chmod 600")])
def test_the_script_refuses_a_worker_whose_token_is_missing_or_open(token, mode, message):
    if mode:
        node.auth_token.create().chmod(mode)
    command = ["bash", ROOT / "scripts/ray_cluster.sh", "worker", "127.0.0.1"]
    done = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | {"VERL_PYTHON": sys.executable}, cwd=ROOT
    )
    assert done.returncode == 1
    assert (
        done.stderr.startswith("balanced-agg node: ") and message in done.stderr and len(done.stderr.splitlines()) == 1
    )
