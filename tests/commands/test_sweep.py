"""A sweep over a stand-in for `balanced-agg train`: it runs what has not finished, and a failure stops no other run."""

import json
import os

import pytest
from typer.testing import CliRunner, Result

from balanced_agg.commands import sweep as sweep_command
from balanced_agg.commands.cli import app
from balanced_agg.runs.lock import lock

# Logs three steps, the one behind the last logged first; a seed in the file `failing` ends after one step.
TRAIN = """
folder=$(printf '%s\\n' "$@" | sed -n 's/^run.dir=//p')
seed=$(printf '%s\\n' "$@" | sed -n 's/^run.seed=//p')
echo "$@" >> "$folder/started.txt"
touch "$folder/metrics.jsonl"
for step in $(seq $(wc -l < "$folder/metrics.jsonl") 2); do
  echo "{\\"step\\": $step, \\"data\\": {\\"val-core/toy/acc/mean@1\\": 0.$seed$step}}" >> "$folder/metrics.jsonl"
  if grep -qx "$seed" failing; then echo "no disk left"; exit 3; fi
done
"""
SWEEP = ["toy", "--aggregations", "balanced", "token", "--seeds", "1", "2"]
NAMES = [f"toy-{mode}-seed{seed}" for seed in (1, 2) for mode in ("balanced", "group-token-mean")]


@pytest.fixture(autouse=True)
def folder(toy_recipe):
    """The working directory, with outputs/ in it."""
    (toy_recipe / "train.sh").write_text(TRAIN)
    (toy_recipe / "failing").touch()
    return toy_recipe


@pytest.fixture
def train(monkeypatch):
    monkeypatch.setattr(sweep_command, "command", lambda run, ray_address: ["bash", "train.sh", *run.arguments])


def sweep(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["sweep", *arguments])


def times_started(folder) -> dict[str, int]:
    return {path.parent.name: len(path.read_text().splitlines()) for path in (folder / "outputs").glob("*/started.txt")}


def logged_steps(folder, name: str) -> list[int]:
    lines = (folder / "outputs" / name / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["step"] for line in lines]


def test_every_aggregation_runs_under_every_seed_and_the_end_is_a_comparison(train, folder):
    result = sweep(*SWEEP, "data.train_batch_size=4")
    assert result.exit_code == 0
    assert times_started(folder) == dict.fromkeys(NAMES, 1)
    assert (folder / "outputs/toy-comparison/report.html").is_file()
    started = (folder / "outputs" / NAMES[1] / "started.txt").read_text()
    run_dir = folder / "outputs" / NAMES[1]
    assert started == f"toy aggregation=token run.seed=1 run.dir={run_dir} data.train_batch_size=4\n"
    assert "group-token-mean" in result.stdout


def test_an_aggregation_may_have_a_parameter_and_a_scale(train, folder):
    assert (
        sweep("toy", "--aggregations", "delta_l:0.5@equal-mass", "batch_token@equal-mass", "--seeds", "3").exit_code
        == 0
    )
    for file, mode in (("delta_l", "delta-l:0.5@equal-mass"), ("batch_token", "token-mean@equal-mass")):
        run_dir = folder / f"outputs/toy-{mode}-seed3"
        choice = f"aggregation={file} actor_rollout_ref.actor.loss_agg_mode={mode}"
        assert (run_dir / "started.txt").read_text() == f"toy {choice} run.seed=3 run.dir={run_dir}\n"


def test_a_second_sweep_runs_nothing_that_has_finished(train, folder):
    sweep(*SWEEP)
    again = sweep(*SWEEP, "3")
    assert again.exit_code == 0
    assert times_started(folder) == dict.fromkeys([*NAMES, "toy-balanced-seed3", "toy-group-token-mean-seed3"], 1)
    assert again.stdout.count("finished before") == len(NAMES)


def test_one_failing_run_stops_no_other_and_is_reported(train, folder):
    (folder / "failing").write_text("1\n")
    result = sweep(*SWEEP)
    assert result.exit_code == 1
    assert times_started(folder) == dict.fromkeys(NAMES, 1)
    assert result.stderr.count("failed with exit code 3") == 2 and "no disk left" in result.stderr
    assert [result.stdout.count(word) for word in ("failed", "finished")] == [2, 2]


def test_a_run_that_failed_resumes_from_where_it_was(train, folder):
    (folder / "failing").write_text("2\n")
    sweep(*SWEEP)
    assert logged_steps(folder, NAMES[2]) == [0]
    (folder / "failing").write_text("")
    assert sweep(*SWEEP).exit_code == 0
    assert logged_steps(folder, NAMES[2]) == [0, 1, 2]
    assert times_started(folder) == dict(zip(NAMES, (1, 1, 2, 2), strict=True))


def test_a_sweep_beside_another_one_takes_what_that_has_not_begun(train, folder):
    (folder / "outputs" / NAMES[1]).mkdir(parents=True)
    held = lock(folder / "outputs" / NAMES[1] / sweep_command.LOCK)
    result = sweep(*SWEEP)
    assert result.exit_code == 1
    assert times_started(folder) == {name: 1 for name in NAMES if name != NAMES[1]}
    assert result.stdout.count("runs elsewhere") == 1 and f"process {os.getpid()} on" in result.stderr
    os.close(held)
    assert sweep(*SWEEP).exit_code == 0
    assert times_started(folder) == dict.fromkeys(NAMES, 1)


def test_json_is_alone_on_stdout(train, folder):
    (folder / "failing").write_text("1\n")
    result = sweep(*SWEEP, "--json")
    assert result.exit_code == 1
    found = json.loads(result.stdout)
    assert {run["name"] for run in found["runs"]} == set(NAMES)


def test_a_dry_run_starts_nothing(folder):
    result = sweep(*SWEEP, "--dry-run")
    assert result.exit_code == 0
    assert result.stdout.count(" -m balanced_agg train toy aggregation=") == 4
    assert not (folder / "outputs").exists()


def test_a_ray_job_is_the_same_command_on_the_cluster():
    line = sweep(*SWEEP, "--dry-run", "--ray-address", "http://head:8265").stdout.splitlines()[1]
    assert " submit --ray-address http://head:8265 toy aggregation=balanced run.seed=1 " in line


def test_values_of_an_option_may_also_be_given_one_by_one_and_overrides_stand_anywhere():
    one_by_one = ["--seeds", "1", "--dry-run", "toy", "a.b=1", "--aggregations", "token", "--seeds", "2", "c.d=2"]
    together = ["toy", "--aggregations", "token", "--seeds", "1", "2", "a.b=1", "c.d=2", "--dry-run"]
    first, second = sweep(*one_by_one), sweep(*together)
    assert first.exit_code == 0 and first.stdout == second.stdout


REFUSED = {
    "an unknown aggregation": (
        ["toy", "--aggregations", "balancd", "--seeds", "1"],
        "balancd: there are balanced, batch_token",
    ),
    "a parameter that a rule does not take": (
        ["toy", "--aggregations", "token:2", "--seeds", "1"],
        "takes no parameter",
    ),
    "another suffix": (["toy", "--aggregations", "token@mass", "--seeds", "1"], "unknown aggregation mode"),
    "an unknown recipe": (["tuy", "--aggregations", "balanced", "--seeds", "1"], "tuy is no recipe; recipes: toy"),
    "a seed twice": (["toy", "--aggregations", "balanced", "--seeds", "1", "1"], "name each of them once"),
    "a key that is the sweep's": ([*SWEEP, "run.seed=4"], "use --aggregations, --seeds and --dir"),
    "an aggregation as an override": (
        [*SWEEP, "actor_rollout_ref.actor.loss_agg_mode=token-mean"],
        "use --aggregations",
    ),
    "no seeds": (["toy", "--aggregations", "balanced"], "--seeds"),
}


@pytest.mark.parametrize(("arguments", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_a_sweep_is_refused_before_anything_starts(train, folder, arguments, message):
    result = sweep(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert not (folder / "outputs").exists()


def test_other_overrides_do_not_pass_for_the_run_that_is_there(train):
    sweep(*SWEEP, "data.train_batch_size=4")
    other = sweep(*SWEEP, "data.train_batch_size=8")
    assert other.exit_code == 2 and "was started with the overrides data.train_batch_size=4" in other.stderr


def test_a_log_that_all_runs_would_share_is_refused(train, monkeypatch):
    monkeypatch.setenv("VERL_FILE_LOGGER_PATH", "log.jsonl")
    result = sweep(*SWEEP)
    assert result.exit_code == 2 and "VERL_FILE_LOGGER_PATH is exported" in result.stderr


@pytest.mark.parametrize("content", [b"", b'{"finished": tr', b"[1]", b"\xff", b'{"finished": true}', None])
def test_a_record_that_is_damaged_is_named_and_nothing_is_run(train, folder, content):
    record = folder / "outputs" / NAMES[0] / "sweep.json"
    record.parent.mkdir(parents=True)
    if content is None:
        record.mkdir()
    else:
        record.write_bytes(content)
    result = sweep(*SWEEP)
    assert result.exit_code in (1, 2) and isinstance(result.exception, SystemExit)
    assert result.stderr.count("\n") == 1 and str(record) in result.stderr
    assert times_started(folder) == {}
