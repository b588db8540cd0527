"""scripts/slurm.sbatch against stand-ins of Slurm's commands: what runs where, who sees the token, how it all ends."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid

import pytest

from tests.composed import ROOT
from tests.end_to_end.launch import processes_of, wait_for_end

STUB = ROOT / "tests/commands/cluster/stubs/stub.py"
RECIPE = ["qwen3_1.7b_dapo17k", "run.seed=2"]


class Job:
    """The script as a Slurm job of so many hosts."""

    def __init__(self, folder, hosts: int):
        self.checkout = folder / "checkout"
        (self.checkout / "scripts").mkdir(parents=True)
        for name in ("balanced-agg.sh", "ray_cluster.sh", "submit.sh"):
            shutil.copy(ROOT / "scripts" / name, self.checkout / "scripts")
        commands = folder / "commands"
        commands.mkdir()
        for name in ("srun", "scontrol", "getent", "apptainer", "python"):
            (commands / name).write_text(f"#!{sys.executable}\n{STUB.read_text()}")
            (commands / name).chmod(0o755)
        self.hosts = [f"host{number}" for number in range(1, hosts + 1)]
        self.calls_file, self.mark = folder / "calls.jsonl", uuid.uuid4().hex
        self.calls_file.touch()
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")} | {
            "PATH": f"{commands}:{os.environ['PATH']}",
            "VERL_PYTHON": str(commands / "python"),
            "SLURM_SUBMIT_DIR": str(self.checkout),
            "SLURM_JOB_ID": "17",
            "SLURM_JOB_NODELIST": "host[1-99]",
            "HOSTS": " ".join(self.hosts),
            "CALLS": str(self.calls_file),
            "RUN": "0",
            "BALANCED_AGG_TEST_RUN": self.mark,
        }

    def start(self, *arguments, **environment):
        # Slurm runs a copy of the script, from a folder of its own.
        script = shutil.copy(ROOT / "scripts/slurm.sbatch", self.calls_file.parent / "slurm_script")
        self.process = subprocess.Popen(
            ["bash", script, *arguments],
            env=self.environment | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def end(self) -> int:
        self.output, _ = self.process.communicate(timeout=60)
        return self.process.returncode

    def run(self, *arguments, **environment) -> int:
        self.start(*arguments, **environment)
        return self.end()

    def calls(self, name: str) -> list[dict]:
        """Of a command, or of a subcommand of balanced-agg that python runs."""
        complete, _, _ = self.calls_file.read_text().rpartition("\n")  # the last line may still be written
        calls = map(json.loads, complete.splitlines())
        return [call for call in calls if name in (call["name"], call.get("subcommand"))]

    def wait_until(self, condition) -> None:
        until = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < until, self.calls_file.read_text()
            time.sleep(0.05)


NODE, SUBMIT = "node", "submit"


@pytest.fixture(params=[1, 2, pytest.param(16, marks=pytest.mark.slow)], ids=lambda hosts: f"{hosts} hosts")
def job(request, tmp_path):
    job = Job(tmp_path, request.param)
    yield job
    for pid in processes_of(job.mark):
        os.kill(pid, signal.SIGKILL)


@pytest.fixture
def two(tmp_path):
    job = Job(tmp_path, 2)
    yield job
    for pid in processes_of(job.mark):
        os.kill(pid, signal.SIGKILL)


def test_one_head_workers_elsewhere_and_the_run_on_all_of_them(job):
    assert job.run(*RECIPE) == 0, job.output
    started = {call["host"]: call["arguments"][3:] for call in job.calls(NODE)}
    assert started == {
        host: ["head", "--node-ip-address=10.0.0.1"] if host == "host1" else ["worker", "10.0.0.1"]
        for host in job.hosts
    }
    (run,) = job.calls(SUBMIT)
    assert run["host"] == "host1"
    where = ["--ray-address", "http://10.0.0.1:8265", "--nodes", str(len(job.hosts)), "--wait", "600"]
    assert run["arguments"][3:] == [*where, *RECIPE]


def test_all_have_the_token_and_no_one_shows_it(job):
    assert job.run(*RECIPE) == 0
    holders = job.calls(NODE) + job.calls(SUBMIT)
    (token,) = {call["token"] for call in holders}
    assert len(bytes.fromhex(token)) == 32
    assert {tuple(call["modes"]) for call in holders} == {("0o600", "0o700")}
    assert not any(call["in_environment"] for call in holders)
    assert token not in job.output + "".join(map(str, (call["arguments"] for call in holders + job.calls("srun"))))


def test_nothing_is_left_of_a_job_that_has_ended(job):
    assert job.run(*RECIPE) == 0
    assert wait_for_end(job.mark) == []
    assert list((job.checkout / "outputs").iterdir()) == []


def test_the_exit_status_is_that_of_the_run(two):
    assert two.run(*RECIPE, RUN="3") == 3


def test_at_a_time_limit_the_run_is_told_first_and_the_nodes_wait_for_it(job):
    job.start(*RECIPE, RUN="lasts")
    job.wait_until(lambda: len(job.calls(NODE)) == len(job.hosts) and job.calls(SUBMIT))
    job.process.send_signal(signal.SIGTERM)
    assert job.end() == 143, job.output
    (end,) = job.calls("end of the run")
    assert end["told"]
    assert wait_for_end(job.mark) == []
    assert list((job.checkout / "outputs").iterdir()) == []


@pytest.mark.parametrize("lost", ["host1", "host2"])
def test_a_node_that_is_lost_ends_the_run(two, lost):
    assert two.run(*RECIPE, RUN="lasts", LOST=lost) == 143
    assert two.calls("end of the run")[0]["told"]
    assert wait_for_end(two.mark) == []


def test_two_jobs_have_two_tokens(tmp_path):
    tokens = set()
    for name in ("one", "other"):
        job = Job(tmp_path / name, 1)
        assert job.run(*RECIPE) == 0
        tokens.add(job.calls(SUBMIT)[0]["token"])
    assert len(tokens) == 2


def test_an_image_has_the_checkout_in_its_place(two):
    assert two.run(*RECIPE, BALANCED_AGG_IMAGE="balanced-agg.sif") == 0, two.output
    calls = two.calls("apptainer")
    assert len(calls) == 3  # head, worker, run
    for call in calls:
        at = call["arguments"].index("balanced-agg.sif")
        bound = f"--nv --bind {two.checkout} --bind {two.checkout}:/workspace --pwd /workspace".split()
        assert call["arguments"][:at] == ["exec", *bound]


@pytest.mark.parametrize(("arguments", "elsewhere"), [([], False), (RECIPE, True)], ids=["no recipe", "elsewhere"])
def test_it_says_how_it_is_used(two, tmp_path, arguments, elsewhere):
    where = {"SLURM_SUBMIT_DIR": str(tmp_path)} if elsewhere else {}
    assert two.run(*arguments, **where) == 2
    assert "in the root of the checkout: sbatch --nodes=N scripts/slurm.sbatch RECIPE" in two.output
    assert two.calls("srun") == []
