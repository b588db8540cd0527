"""A real cluster: two Ray nodes, each with its address, a token, and a run over both with the gradient of one node."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

from balanced_agg.rewards.packed_tests import Writer
from tests.composed import write_rows
from tests.end_to_end.launch import DEADLINE, SMALL, processes_of, replay, wait_for_end
from tests.end_to_end.nodes import two_nodes, why_not
from tests.end_to_end.reference import gradient_norm

# Many of one kind would say nothing more: a rank on each node, and room for Ray's other actors.
SIZE = ["--num-gpus=1", "--num-cpus=8", "--object-store-memory=500000000"]

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(why_not()), reason=why_not() or "")]


class Cluster:
    """Head and worker by scripts/ray_cluster.sh; what they start bears a mark in its environment."""

    def __init__(self, head, worker, folder):
        self.head, self.worker, self.folder = head, worker, folder
        self.url = f"http://{head.address}:8265"
        self.mark = uuid.uuid4().hex
        self.token = folder / "private/token"
        for node in (head, worker):
            node.environment |= {"BALANCED_AGG_TEST_RUN": self.mark, "RAY_AUTH_TOKEN_PATH": str(self.token)}
        self.running = {}

    def start(self):
        ip = self.head.address
        self._start("head", self.head, "head", f"--node-ip-address={ip}")
        wait_until(self.token.exists, self.log)
        self._start("worker", self.worker, "worker", ip)

    def _start(self, name, node, *arguments):
        with (self.folder / f"{name}.txt").open("w") as log:
            command = ["bash", "scripts/ray_cluster.sh", *arguments, *SIZE]
            self.running[name] = node.start(*command, stdout=log, stderr=subprocess.STDOUT)

    def log(self) -> str:
        return "".join(path.read_text()[-5000:] for path in self.folder.glob("*.txt"))

    def end(self):
        for process in self.running.values():
            process.terminate()
        for process in self.running.values():
            process.wait(timeout=DEADLINE)


def wait_until(condition, log, seconds: float = DEADLINE):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, log()
        time.sleep(0.2)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory, first_run):  # which needs the memory that the cluster takes
    folder = tmp_path_factory.mktemp("two_nodes")
    with two_nodes(folder) as (head, worker):
        cluster = Cluster(head, worker, folder)
        try:
            cluster.start()
            yield cluster
        finally:
            for pid in processes_of(cluster.mark):
                os.kill(pid, signal.SIGKILL)


def submit(cluster, *arguments):
    return cluster.worker.run(
        "bash", "scripts/submit.sh", "arithmetic", "--ray-address", cluster.url, *arguments, timeout=DEADLINE
    )


def test_output_and_exit_status_of_a_run_are_those_of_its_submitter(cluster):
    printed = submit(cluster, "--nodes", "2", "--cfg", "job")
    assert printed.returncode == 0, printed.stdout + cluster.log()
    assert re.search("^  nnodes: 2$", printed.stdout, re.MULTILINE)
    refused = submit(cluster, "no.such.key=1")
    assert refused.returncode == 1
    assert "no.such.key" in refused.stdout.split("Running entrypoint")[1]


def knock(cluster, name: str, way: str, mode: str, token: str | None):
    """Submit a job or join as a driver from the other node, with this token in the home folder."""
    home = cluster.folder / name / way
    (home / ".ray").mkdir(parents=True)
    if token:
        (home / ".ray/auth_token").write_text(token)
    calls = {
        "job": f"JobSubmissionClient({cluster.url!r}).submit_job(entrypoint='true')",
        "init": f"ray.init('{cluster.head.address}:6379')",
    }
    script = f"import ray; from ray.job_submission import JobSubmissionClient; {calls[way]}; print('let in')"
    variables = ["--unset=RAY_AUTH_TOKEN_PATH", f"HOME={home}", f"RAY_AUTH_MODE={mode}"]
    return cluster.worker.run("env", *variables, sys.executable, "-c", script, timeout=DEADLINE)


STRANGERS = {
    "without a token": ("token", None),
    "without authentication": ("disabled", None),
    "with another token": ("token", "0" * 64),
}


@pytest.mark.parametrize("who", STRANGERS)
@pytest.mark.parametrize("way", ["job", "init"])
def test_who_does_not_have_the_token_is_refused(cluster, way, who):
    done = knock(cluster, who, way, *STRANGERS[who])
    assert done.returncode == 1 and "let in" not in done.stdout
    assert re.search("AuthenticationError|Unauthenticated|Failed to connect to Ray cluster", done.stdout), done.stdout


@pytest.mark.parametrize("way", ["job", "init"])
def test_who_has_the_token_is_let_in(cluster, way):
    done = knock(cluster, "friend", way, "token", cluster.token.read_text())
    (cluster.folder / "friend" / way / ".ray/auth_token").unlink()
    assert done.returncode == 0 and "let in" in done.stdout, done.stdout


def test_a_run_over_both_nodes_has_the_gradient_of_one_and_ends_at_ctrl_c(cluster, first_run, arithmetic_model):
    one_node, recorded_there = first_run
    norm = one_node.steps[1]["actor/grad_norm"]
    run, recorded = cluster.folder / "run", cluster.folder / "recorded"
    shutil.copytree(recorded_there, recorded)  # the nodes see no other folder of /tmp
    before = set(processes_of(cluster.mark))
    with (cluster.folder / "submit.txt").open("w") as log:
        settings = [f"run.dir={run}", *SMALL, "trainer.total_training_steps=500", *replay(recorded, 1)]
        command = ["bash", "scripts/submit.sh", "arithmetic", "--ray-address", cluster.url, "--nodes", "2", *settings]
        submitted = cluster.worker.start(*command, stdout=log, stderr=subprocess.STDOUT)
    metrics = run / "metrics.jsonl"
    wait_until(
        lambda: submitted.poll() is not None or (metrics.exists() and b"grad_norm" in metrics.read_bytes()), cluster.log
    )
    assert submitted.poll() is None, cluster.log()
    submitted.send_signal(signal.SIGINT)
    assert submitted.wait(timeout=DEADLINE) == 128 + signal.SIGINT, cluster.log()

    (batch,) = recorded.rglob("tq_batch.pt")
    reference = gradient_norm(arithmetic_model, batch, "balanced")
    logged = json.loads(metrics.read_text().splitlines()[0])["data"]["actor/grad_norm"]
    print(f"two nodes {logged:.6f}, one node {norm:.6f}, float64 reference {reference:.6f}")
    assert logged == pytest.approx(norm, rel=1e-4)
    assert logged == pytest.approx(reference, rel=1e-4)

    trained_on = {name_of(pid) for pid in set(processes_of(cluster.mark)) - before} - {"ray::IDLE", ""}
    assert trained_on == set(), cluster.log()


def test_a_node_that_cannot_grade_programs_is_named_before_training(cluster):
    folder = cluster.folder / "programs"
    folder.mkdir()
    tests = {"inputs": ["1"], "outputs": ["1"]}
    with Writer(folder / "code.tests.zip", "code.tests.zip") as writer:
        reward_model = {"style": "rule", "ground_truth": writer.add(json.dumps(tests))}
    write_rows(folder / "code.parquet", 8, data_source="livecodebench", reward_model=reward_model)
    hidden = cluster.worker.run("mount", "--bind", "/bin/false", shutil.which("bwrap"))
    assert hidden.returncode == 0, hidden.stdout
    settings = [f"run.dir={folder}/run", f"data.val_files={folder}/code.parquet", "reward.num_workers=2", *SMALL]
    refused = submit(cluster, "--nodes", "2", *settings)
    assert refused.returncode == 1
    named = f"data.val_files: node {cluster.worker.address} cannot grade {folder}/code.parquet: bubblewrap"
    assert named in refused.stdout, refused.stdout[-5000:]
    assert f"node {cluster.head.address} cannot" not in refused.stdout
    assert not (folder / "run/metrics.jsonl").exists()


def name_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().split("\0")[0].strip()
    except OSError:
        return ""  # it has just ended


def test_the_token_is_in_no_argument_and_no_log(cluster):
    assert cluster.token.stat().st_mode & 0o777 == 0o600
    token = cluster.token.read_bytes()
    shown = [file for file in cluster.folder.rglob("*") if file.is_file() and token in file.read_bytes()]
    assert shown == [cluster.token]
    for pid in processes_of(cluster.mark):
        for file in ("cmdline", "environ"):
            assert token not in Path(f"/proc/{pid}/{file}").read_bytes()


def test_nothing_is_left_once_both_nodes_are_told_to_end(cluster):
    cluster.end()
    assert wait_for_end(cluster.mark) == []
