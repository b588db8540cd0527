"""The saved wandb workspace: what is in it, and that no key gets out."""

import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest
from typer.testing import CliRunner

from balanced_agg.commands import workspace as wandb_workspace
from balanced_agg.commands.cli import app
from balanced_agg.commands.plot_style import STYLES
from balanced_agg.loss.rules import AGGREGATIONS

KEY = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def section():
    workspace = wandb_workspace.build("team", "project", "Balanced Aggregation")
    return wandb_workspace.specification(workspace)["spec"]["section"]


def panels(section):
    return [panel["config"] for part in section["panelBankConfig"]["sections"] for panel in part["panels"]]


def test_runs_are_grouped_by_mode(section):
    (runs,) = section["runSets"]
    assert runs["grouping"] == [{"section": "config", "name": "actor_rollout_ref.value.actor.loss_agg_mode"}]


def test_every_mode_has_the_colour_of_the_other_pictures(section):
    assert sorted(section["customRunColors"].values()) == sorted(style.colour for style in STYLES.values())


def test_the_sections_are_there_in_order(section):
    names = [part["name"] for part in section["panelBankConfig"]["sections"]]
    assert names == ["Accuracy", "Training", "Lengths and signs", "What each aggregation would do", "Speed"]


def test_each_measure_of_the_rules_has_one_panel_with_all_five(section):
    drawn = [config["metrics"] for config in panels(section)]
    for measure in ("positive_share", "drift", "long_token_weight", "effective_sequences"):
        assert drawn.count([f"aggregation/{aggregation}/{measure}" for aggregation in AGGREGATIONS]) == 1


def test_every_panel_is_over_steps_and_draws_something(section):
    for config in panels(section):
        assert config["xAxis"] == "_step"
        assert bool(config["metrics"]) != bool(config.get("metricRegex"))


def test_a_dry_run_needs_no_key_and_prints_json_alone(monkeypatch, capsys):
    monkeypatch.setattr(wandb_workspace, "save", lambda workspace: pytest.fail("saved"))
    assert wandb_workspace.run("team/project", "Mine", dry_run=True) == 0
    specification = json.loads(capsys.readouterr().out)
    assert (specification["entity"], specification["project"], specification["name"]) == ("team", "project", "Mine")


@pytest.mark.parametrize("path", ["project", "/project", "team/", "team/project/run"])
def test_a_path_that_is_no_project_is_a_usage_error(path):
    result = CliRunner().invoke(app, ["workspace", path, "--dry-run"])
    assert result.exit_code == 2 and "ENTITY/PROJECT" in result.stderr


class StandIn(BaseHTTPRequestHandler):
    """wandb's server as far as saving a workspace goes; keeps the saved ones in `saved`."""

    accepts = True
    saved: ClassVar[list[dict]] = []

    def do_POST(self) -> None:
        query = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if b"UpsertView" in query:
            self.saved.append(json.loads(query)["variables"])
        user = {"id": "1", "username": "me", "entity": "me", "teams": {"edges": []}, "apiKeys": {"edges": []}}
        view = {"view": {"id": "1", "name": "nw-some-v"}, "inserted": True}
        refusal = {"errors": [{"message": f"no such key: {KEY}"}]}
        answer = json.dumps({"data": {"viewer": user, "upsertView": view}} if self.accepts else refusal).encode()
        self.send_response(200 if self.accepts else 401)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def run_command(tmp_path):
    """Run the real command in a process of its own, against a server on this machine; (its process, what was saved)."""

    def run(accepts: bool, **variables: str) -> tuple[subprocess.CompletedProcess, list[dict]]:
        handler = type("Handler", (StandIn,), {"accepts": accepts, "saved": []})
        with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
            environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "WANDB_MODE": "offline"}
            environment["WANDB_BASE_URL"] = f"http://127.0.0.1:{server.server_port}"
            command = [sys.executable, "-m", "balanced_agg", "workspace", "team/project"]
            done = subprocess.run(command, env=environment | variables, capture_output=True, text=True)
            server.shutdown()
        return done, handler.saved

    return run


def assert_no_part_of_the_key(said: str) -> None:
    assert not any(KEY[start : start + 8] in said for start in range(len(KEY) - 7))


def test_without_a_key_it_says_in_one_line_how_to_log_in(run_command):
    done, saved = run_command(accepts=True)
    assert (done.returncode, done.stdout, saved) == (1, "", [])
    assert "wandb login" in done.stderr and done.stderr.count("\n") == 1


def test_saving_prints_the_url_alone_and_no_key(run_command):
    done, (saved,) = run_command(accepts=True, WANDB_API_KEY=KEY)
    assert done.returncode == 0
    assert done.stdout.count("\n") == 1 and done.stdout.endswith("/team/project?nw=some\n")
    assert (saved["entityName"], saved["projectName"], saved["displayName"]) == (
        "team",
        "project",
        "Balanced Aggregation",
    )
    assert_no_part_of_the_key(done.stdout + done.stderr)


def test_a_refused_key_is_one_line_without_the_key(run_command):
    done, saved = run_command(accepts=False, WANDB_API_KEY=KEY)
    assert (done.returncode, done.stdout, saved) == (1, "", [])
    assert "not saved" in done.stderr and done.stderr.count("\n") == 1
    assert_no_part_of_the_key(done.stderr)


def test_a_failure_that_quotes_the_key_is_cut(monkeypatch, capsys):
    monkeypatch.setenv("WANDB_API_KEY", KEY)

    def fail(workspace):
        raise RuntimeError(f"401 for key {KEY}")

    monkeypatch.setattr(wandb_workspace, "save", fail)
    assert wandb_workspace.run("team/project", "Mine", dry_run=False) == 1
    assert KEY not in capsys.readouterr().err
