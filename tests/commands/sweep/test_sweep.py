"""A sweep over a stand-in for scripts/train.sh: it runs what is left to run, and one failure is only one failure."""

import json
import shutil

import pytest

from balanced_agg.commands.sweep.__main__ import main
from tests.composed import ROOT

# Logs three steps, the one behind the last logged first; a seed in the file `failing` ends after one step.
TRAIN = """
folder=$(printf '%s\\n' "$@" | sed -n 's/^run.dir=//p')
seed=$(printf '%s\\n' "$@" | sed -n 's/^run.seed=//p')
echo "$@" >> "$folder/started.txt"
touch "$folder/metrics.jsonl"
for step in $(seq $(wc -l < "$folder/metrics.jsonl") 2); do
  echo "{\\"step\\": $step, \\"data\\": {\\"val-core/toy/acc/mean@1\\": 0.$seed$step}}" >> "$folder/metrics.jsonl"
  if grep -qx "$seed" "$(dirname "$0")/failing"; then echo "no disk left"; exit 3; fi
done
"""
SWEEP = ["toy", "--modes", "balanced", "token", "--seeds", "1", "2"]
NAMES = [f"toy-{mode}-seed{seed}" for seed in (1, 2) for mode in ("balanced", "group-token-mean")]


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    monkeypatch.delenv("VERL_FILE_LOGGER_PATH", raising=False)
    folder = tmp_path / "checkout"
    for name in ("recipes", "scripts"):
        (folder / name).mkdir(parents=True)
    (folder / "recipes/toy.yaml").touch()
    (folder / "scripts/train.sh").write_text(TRAIN)
    (folder / "scripts/failing").touch()
    shutil.copytree(ROOT / "configs/aggregation", folder / "configs/aggregation")
    return folder


def times_started(checkout) -> dict[str, int]:
    return {
        path.parent.name: len(path.read_text().splitlines()) for path in (checkout / "outputs").glob("*/started.txt")
    }


def logged_steps(checkout, name: str) -> list[int]:
    lines = (checkout / "outputs" / name / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["step"] for line in lines]


def test_every_rule_runs_under_every_seed_and_the_end_is_a_comparison(checkout, capsys):
    assert main([*SWEEP, "data.train_batch_size=4"], checkout) == 0
    assert times_started(checkout) == dict.fromkeys(NAMES, 1)
    assert (checkout / "outputs/toy-comparison/report.html").is_file()
    started = (checkout / "outputs" / NAMES[1] / "started.txt").read_text()
    folder = checkout / "outputs" / NAMES[1]
    assert started == f"toy aggregation=token run.seed=1 run.dir={folder} data.train_batch_size=4\n"
    assert "group-token-mean" in capsys.readouterr().out


def test_a_second_sweep_runs_nothing_that_has_finished(checkout, capsys):
    main(SWEEP, checkout)
    capsys.readouterr()
    assert main([*SWEEP, "3"], checkout) == 0
    assert times_started(checkout) == dict.fromkeys([*NAMES, "toy-balanced-seed3", "toy-group-token-mean-seed3"], 1)
    assert capsys.readouterr().out.count("finished before") == len(NAMES)


def test_one_failing_run_stops_no_other_and_is_reported(checkout, capsys):
    (checkout / "scripts/failing").write_text("1\n")
    assert main(SWEEP, checkout) == 1
    assert times_started(checkout) == dict.fromkeys(NAMES, 1)
    shown = capsys.readouterr()
    assert shown.err.count("failed with exit code 3") == 2 and "no disk left" in shown.err
    assert [shown.out.count(word) for word in ("failed", "finished")] == [2, 2]


def test_a_run_that_failed_goes_on_from_where_it_was(checkout):
    (checkout / "scripts/failing").write_text("2\n")
    main(SWEEP, checkout)
    assert logged_steps(checkout, NAMES[2]) == [0]
    (checkout / "scripts/failing").write_text("")
    assert main(SWEEP, checkout) == 0
    assert logged_steps(checkout, NAMES[2]) == [0, 1, 2]
    assert times_started(checkout) == dict(zip(NAMES, (1, 1, 2, 2), strict=True))


def test_json_is_alone_on_stdout(checkout, capsys):
    (checkout / "scripts/failing").write_text("1\n")
    assert main([*SWEEP, "--json"], checkout) == 1
    found = json.loads(capsys.readouterr().out)
    assert {run["name"] for run in found["runs"]} == set(NAMES)


def test_a_dry_run_starts_nothing(checkout, capsys):
    assert main([*SWEEP, "--dry-run"], checkout) == 0
    assert capsys.readouterr().out.count("train.sh toy aggregation=") == 4
    assert not (checkout / "outputs").exists()


def test_a_ray_job_is_the_same_command_on_the_cluster(checkout, capsys):
    main([*SWEEP, "--dry-run", "--ray-address", "http://head:8265"], checkout)
    line = capsys.readouterr().out.splitlines()[1]
    assert "scripts/submit.sh toy aggregation=balanced run.seed=1 " in line
    assert line.endswith(" --ray-address http://head:8265")


REFUSED = {
    "an unknown rule": (["toy", "--modes", "balancd", "--seeds", "1"], "balancd: there are balanced, batch_token"),
    "an unknown recipe": (["tuy", "--modes", "balanced", "--seeds", "1"], "tuy: there are toy"),
    "a seed twice": (["toy", "--modes", "balanced", "--seeds", "1", "1"], "name each of them once"),
    "a key that is the sweep's": ([*SWEEP, "run.seed=4"], "use --modes, --seeds and --dir"),
    "a mode as an override": ([*SWEEP, "actor_rollout_ref.actor.loss_agg_mode=token-mean"], "use --modes"),
    "no seeds": (["toy", "--modes", "balanced"], "--seeds"),
}


@pytest.mark.parametrize(("arguments", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_a_sweep_is_refused_before_anything_starts(checkout, capsys, arguments, message):
    with pytest.raises(SystemExit) as exit:
        main(arguments, checkout)
    assert exit.value.code == 2
    assert message in capsys.readouterr().err
    assert not (checkout / "outputs").exists()


def test_other_overrides_do_not_pass_for_the_run_that_is_there(checkout, capsys):
    main([*SWEEP, "data.train_batch_size=4"], checkout)
    with pytest.raises(SystemExit):
        main([*SWEEP, "data.train_batch_size=8"], checkout)
    assert "was started with the overrides data.train_batch_size=4" in capsys.readouterr().err


def test_a_log_that_all_runs_would_share_is_refused(checkout, capsys, monkeypatch):
    monkeypatch.setenv("VERL_FILE_LOGGER_PATH", "log.jsonl")
    with pytest.raises(SystemExit):
        main(SWEEP, checkout)
    assert "VERL_FILE_LOGGER_PATH is exported" in capsys.readouterr().err
