"""`balanced-agg submit`: what becomes a job, what goes along, and how it ends; against a stand-in for Ray's client."""

import os
import re
import shlex
import signal
import sys

import pytest
import requests
from ray.exceptions import AuthenticationError
from ray.job_submission import JobStatus
from typer.testing import CliRunner, Result

from balanced_agg.commands.cli import app
from balanced_agg.commands.cluster import auth_token, ray_job
from tests.composed import compose_recipe

URL = "http://10.1.2.3:8265"


class Cluster:
    """A cluster that answers as Ray's does: a job goes through `statuses`, its last one for good."""

    def __init__(self):
        self.statuses, self.exit_code, self.output = [JobStatus.SUCCEEDED], 0, ["one\n", "two\n"]
        self.submitted, self.stopped, self.actors, self.nodes, self.answers = [], [], [2, 1, 0], [2], []

    def client(self, url):
        if self.answers and isinstance(answer := self.answers.pop(0), Exception):
            raise answer
        return self

    def list_nodes(self, url, **_):
        return [None] * (self.nodes.pop(0) if len(self.nodes) > 1 else self.nodes[0])

    def list_actors(self, url, **_):
        return [None] * (self.actors.pop(0) if len(self.actors) > 1 else self.actors[0])

    def submit_job(self, **job):
        self.submitted.append(job)

    async def tail_job_logs(self, job):
        for text in self.output:
            if isinstance(text, Exception | int):
                if isinstance(text, Exception):
                    raise text
                os.kill(os.getpid(), text)
            else:
                yield text

    def get_job_status(self, job):
        return self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]

    def get_job_info(self, job):
        details = type("Details", (), {"message": "no GPU"})()
        details.status, details.driver_exit_code, details.job_id = self.statuses[0], self.exit_code, "01000000"
        return details

    def stop_job(self, job):
        self.stopped.append(job)
        self.statuses = [JobStatus.RUNNING, JobStatus.STOPPED]


@pytest.fixture
def cluster(monkeypatch):
    cluster = Cluster()
    monkeypatch.setattr(ray_job, "JobSubmissionClient", cluster.client)
    monkeypatch.setattr(ray_job, "list_nodes", cluster.list_nodes)
    monkeypatch.setattr(ray_job, "list_actors", cluster.list_actors)
    monkeypatch.setattr(ray_job, "POLL_SECONDS", 0)
    return cluster


@pytest.fixture(autouse=True)
def token(tmp_path, monkeypatch):
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_MODE", "RAY_API_SERVER_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))
    return auth_token.create()


def submit(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["submit", *arguments])


def submitted(*arguments: str) -> int:
    """Exit code."""
    return submit("arithmetic", "--ray-address", URL, *arguments).exit_code


def test_the_job_is_the_train_command_of_this_environment_and_folder_on_a_running_cluster(
    cluster, tmp_path, monkeypatch
):
    monkeypatch.delenv("BALANCED_AGG_ROOT", raising=False)
    monkeypatch.chdir(tmp_path)
    result = submit("arithmetic", "--ray-address", URL, "--nodes", "2", "run.seed=7", "data.x='a b'", "--cfg", "job")
    assert (result.exit_code, result.stdout) == (0, "one\ntwo\n")
    (job,) = cluster.submitted
    train = [sys.executable, "-m", "balanced_agg", "train", "arithmetic", "cluster=existing", "trainer.nnodes=2"]
    assert shlex.split(job["entrypoint"]) == [*train, "run.seed=7", "data.x='a b'", "--cfg", "job"]
    assert job["runtime_env"]["env_vars"]["BALANCED_AGG_ROOT"] == str(tmp_path)
    assert shlex.split(job["runtime_env"]["py_executable"]) == [sys.executable]
    assert re.fullmatch("arithmetic-[0-9a-f]{8}", job["submission_id"])


@pytest.mark.parametrize("recipe", ["arithmetic", "qwen3_1.7b_dapo17k"])
def test_a_run_on_a_cluster_that_is_there_does_not_size_it(recipe):
    ray_init = compose_recipe(recipe, "cluster=existing").ray_kwargs.ray_init
    assert [ray_init[key] for key in ("num_cpus", "num_gpus", "object_store_memory")] == [None] * 3


def test_a_recipe_for_the_cpu_says_so_to_every_node():
    assert compose_recipe("arithmetic").ray_kwargs.ray_init.runtime_env.env_vars.VERL_PLATFORM == "cpu"


def test_settings_go_along_and_secrets_do_not(cluster, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "online")
    for secret in ("WANDB_API_KEY", "HF_TOKEN", "VLLM_API_KEY", "RAY_AUTH_TOKEN_PATH", "VERL_PASSWORD"):
        monkeypatch.setenv(secret, "tell-no-one")
    auth_token.token_file().parent.mkdir(exist_ok=True)
    monkeypatch.setenv("RAY_AUTH_TOKEN", "tell-no-one")
    assert submitted() == 0
    variables = cluster.submitted[0]["runtime_env"]["env_vars"]
    assert variables["WANDB_MODE"] == "online"
    assert "tell-no-one" not in str(cluster.submitted)
    # Ray refuses a job whose driver sets a variable again, as configs/base.yaml does, unless it is told which wins.
    assert variables["RAY_OVERRIDE_JOB_RUNTIME_ENV"] == "1"


def test_an_address_on_the_command_line_wins_over_the_variable(cluster, monkeypatch):
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://other:8265")
    seen = []
    monkeypatch.setattr(ray_job, "JobSubmissionClient", lambda url: seen.append(url) or cluster)
    assert submitted() == 0
    assert seen == [URL] and os.environ["RAY_API_SERVER_ADDRESS"] == URL  # Ray looks there first


@pytest.mark.parametrize(("code", "status"), [(1, 1), (3, 3), (-9, 137), (None, 1)])
def test_the_exit_status_is_that_of_the_job(cluster, code, status):
    cluster.statuses, cluster.exit_code = [JobStatus.FAILED], code
    assert submitted() == status
    assert cluster.stopped == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_the_job_and_waits_until_no_actor_is_left(cluster, number):
    cluster.statuses, cluster.output = [JobStatus.RUNNING], ["one\n", int(number), "never\n"]
    before = signal.getsignal(number)
    assert submitted() == 128 + number
    assert cluster.stopped == [cluster.submitted[0]["submission_id"]]
    assert cluster.statuses == [JobStatus.STOPPED] and cluster.actors == [0]
    assert signal.getsignal(number) is before


def test_a_run_that_has_ended_leaves_no_actor_to_the_next_one(cluster):
    assert submitted() == 0
    assert cluster.actors == [0] and cluster.stopped == []


def test_a_stream_that_breaks_is_no_end_of_the_job(cluster):
    cluster.statuses = [JobStatus.RUNNING, JobStatus.RUNNING, JobStatus.SUCCEEDED]
    cluster.output = ["one\n", RuntimeError("WebSocket connection closed")]
    result = submit("arithmetic", "--ray-address", URL)
    assert result.exit_code == 0 and "output is lost from here on: WebSocket" in result.stderr


def test_a_cluster_that_is_gone_is_one_message(cluster, monkeypatch):
    def gone(job):
        raise requests.exceptions.ConnectionError("connection refused")

    cluster.output = [RuntimeError("WebSocket connection closed")]
    monkeypatch.setattr(cluster, "get_job_status", gone)
    monkeypatch.setattr(cluster, "get_job_info", gone)
    result = submit("arithmetic", "--ray-address", URL)
    assert result.exit_code == 1 and "balanced-agg submit: connection refused" in result.stderr
    assert "cannot tell whether job arithmetic-" in result.stderr


def test_it_waits_for_the_cluster_and_all_its_nodes(cluster):
    cluster.answers, cluster.nodes = [ConnectionError("refused"), None, None, None], [1, 1, 2]
    result = submit("arithmetic", "--ray-address", URL, "--nodes", "2")
    assert result.exit_code == 0
    assert result.stderr.count("waiting up to 60 s for 2 nodes at http://10.1.2.3:8265") == 1


def test_it_does_not_wait_for_ever(cluster):
    cluster.nodes = [1]
    result = submit("arithmetic", "--ray-address", URL, "--nodes", "2", "--wait", "0")
    assert result.exit_code == 1
    assert re.search("no cluster of 2 nodes at .* within 0 s: 1 of 2 nodes are there", result.stderr)
    assert cluster.submitted == []


def test_a_cluster_that_refuses_is_not_asked_again(cluster):
    cluster.answers = [AuthenticationError("Unauthenticated")]
    result = submit("arithmetic", "--ray-address", URL)
    assert result.exit_code == 1 and "balanced-agg submit: Unauthenticated" in result.stderr
    assert cluster.answers == []


REFUSED = {
    "no such recipe": (["no_such", "--ray-address", URL], "no_such is no recipe; recipes: arithmetic"),
    "no cluster": (["arithmetic"], "which cluster? --ray-address http://HEAD:8265"),
}


@pytest.mark.parametrize(("arguments", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_submitted_is_refused(cluster, arguments, message):
    result = submit(*arguments)
    assert result.exit_code == 2 and message in result.stderr and cluster.submitted == []


def test_a_token_that_others_can_read_is_refused(cluster, token):
    token.chmod(0o644)
    result = submit("arithmetic", "--ray-address", URL)
    assert result.exit_code == 2 and "chmod 600" in result.stderr and cluster.submitted == []
