"""A study over a stand-in for `balanced-agg train`: its order, its record and its report."""

import json
import re
import shutil
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from balanced_agg.commands import sweep as sweep_command
from balanced_agg.commands.cli import app
from balanced_agg.commands.study import report
from balanced_agg.commands.study.command import read_plan
from balanced_agg.commands.study.hypotheses import ARITHMETIC, EXPLORATORY, MAIN, SEARCH
from balanced_agg.commands.study.record import read_record
from balanced_agg.commands.study.report import RATES
from tests.composed import compose_recipe

# Logs a validation at the steps 0, 1 and 2; fails behind the first while there is a file `failing`.
TRAIN = """
folder=$(printf '%s\\n' "$@" | sed -n 's/^run.dir=//p')
for step in 0 1 2; do
  echo "{\\"step\\": $step, \\"data\\": {\\"val-core/search/acc/mean@4\\": 0.5$step}}" >> "$folder/metrics.jsonl"
  if [ -e failing ]; then exit 3; fi
done
"""
PLAN = [
    {"stage": stage, "order": order, "recipe": "toy", "aggregations": rules, "seeds": [7, 5], "overrides": ["a.b=1"]}
    for stage, order, rules in (
        (SEARCH[0], 2, ["token@equal-mass"]),
        (SEARCH[0], 1, ["balanced", "token"]),
        (SEARCH[1], 1, ["balanced"]),
    )
]


@pytest.fixture(autouse=True)
def folder(toy_recipe, monkeypatch):
    """The working directory, where plan.yaml is a plan of the recipe `toy`."""
    monkeypatch.setattr(sweep_command, "command", lambda run, ray_address: ["bash", "train.sh", *run.arguments])
    (toy_recipe / "train.sh").write_text(TRAIN)
    write_plan(PLAN)
    return toy_recipe


def write_plan(plan) -> None:
    Path("plan.yaml").write_text(yaml.dump(json.loads(json.dumps(plan))))  # without aliases


def study(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["study", "plan.yaml", *arguments])


def planned(*arguments: str) -> list[str]:
    return re.findall(r"^# .*/outputs/study/(.*): new$", study("--dry-run", *arguments).stdout, re.MULTILINE)


def test_a_dry_run_prints_orders_then_seeds_then_stages_then_rules(folder):
    names = [
        f"{stage}/toy-{mode}-seed{seed}"
        for seed in (7, 5)
        for stage, mode in ((SEARCH[0], "balanced"), (SEARCH[0], "group-token-mean"), (SEARCH[1], "balanced"))
    ]
    behind = [f"{SEARCH[0]}/toy-group-token-mean@equal-mass-seed{seed}" for seed in (7, 5)]
    assert planned() == names + behind
    assert planned("--orders", "1") == names
    assert planned("--orders", "2", "1") == names + behind
    line = study("--dry-run").stdout.splitlines()[1]
    assert " -m balanced_agg train toy aggregation=balanced run.seed=7 run.dir=" in line and line.endswith(" a.b=1")
    assert not (folder / "outputs").exists() and not (folder / "docs").exists()


def test_runs_are_recorded_reported_and_kept_when_their_folders_are_gone(folder, monkeypatch):
    monkeypatch.setattr(report, "pictures", lambda record: {"a.png": bytes(len(record.runs))})
    write_plan([{**PLAN[1], "seeds": [7]}])
    (folder / "failing").touch()
    assert study().exit_code == 1
    key = (SEARCH[0], "token", 7)
    run = read_record(folder / "docs/study").runs[key]
    assert (run.finished, run.steps) == (False, 0)
    started = folder / f"outputs/study/{SEARCH[0]}/toy-group-token-mean-seed7/sweep.json"
    started.write_text(json.dumps(json.loads(started.read_text()) | {"seconds": 100.0}))
    (folder / "failing").unlink()
    done = study()
    assert done.exit_code == 0, done.output
    run = read_record(folder / "docs/study").runs[key]
    assert (run.finished, run.steps, run.order, run.overrides) == (True, 2, 1, ["a.b=1"])
    assert run.command == "balanced-agg train toy aggregation=token run.seed=7 a.b=1"
    assert run.seconds == json.loads(started.read_text())["seconds"] >= 100.0  # of both starts
    assert run.accuracy == pytest.approx({0: 0.50, 1: 0.51, 2: 0.52})
    text = (folder / "docs/study/report.md").read_text()
    assert "Order 1 is complete: 2 runs." in text and "(a.png)" in text and str(folder) not in text
    assert (folder / "docs/study/a.png").read_bytes() == bytes(2)
    shutil.rmtree(folder / "outputs")
    assert study("--report-only").exit_code == 0
    assert read_record(folder / "docs/study").runs[key] == run
    assert (folder / "docs/study/report.md").read_text() == text
    assert not (folder / "outputs").exists()


def test_a_run_that_the_record_has_as_finished_is_not_run_again_on_another_machine(folder):
    write_plan([{**PLAN[1], "seeds": [7]}])
    assert study().exit_code == 0
    shutil.rmtree(folder / "outputs")
    write_plan([PLAN[1]])
    assert planned() == [f"{SEARCH[0]}/toy-{mode}-seed5" for mode in ("balanced", "group-token-mean")]
    done = study()
    assert done.exit_code == 0, done.output
    assert "2 of 4 runs are finished in the record" in re.sub(r"\s+", " ", done.output)
    assert sorted(path.name for path in (folder / "outputs").rglob("toy-*")) == [
        "toy-balanced-seed5",
        "toy-group-token-mean-seed5",
    ]
    assert len(read_record(folder / "docs/study").runs) == 4


def test_a_recorded_run_of_other_overrides_is_refused(folder):
    write_plan([PLAN[2]])
    assert study().exit_code == 0
    shutil.rmtree(folder / "outputs")
    write_plan([{**PLAN[2], "overrides": ["a.b=2"]}])
    done = study()
    assert done.exit_code == 2
    assert "the overrides a.b=1, not a.b=2; give the stage another name" in re.sub(r"\s+", " ", done.stderr)
    assert not (folder / "outputs").exists()


def test_a_damaged_record_stops_it_before_anything_runs_and_stays(folder):
    (folder / "docs/study").mkdir(parents=True)
    (folder / "docs/study/runs.json").write_text("{")
    done = study()
    assert done.exit_code == 2 and "restore it" in done.stderr
    assert (folder / "docs/study/runs.json").read_text() == "{" and not (folder / "outputs").exists()


@pytest.mark.parametrize("module", ["matplotlib", "scipy.stats", "pyarrow.parquet"])
def test_a_module_that_the_report_lacks_is_told_before_anything_runs(folder, monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    done = study()
    assert done.exit_code == 1 and re.search(rf"study needs {module.split('.')[0]}: pip install", done.stderr)
    assert not (folder / "outputs").exists()


def entry(**changed) -> list[dict]:
    return [{**PLAN[1], **changed}]


REFUSED = {
    "another key": (entry(reps=3), "it must have the keys stage, order, recipe"),
    "a missing key": ([{"stage": "a"}], "entry 1: it must have the keys"),
    "a seed that is no number": (entry(seeds=["1"]), "seeds=['1']"),
    "no rule": (entry(aggregations=[]), "aggregations and seeds"),
    "a stage outside of the folder": (entry(stage="../a"), "must be the name of a folder"),
    "an unknown recipe": (entry(recipe="tuy"), "tuy is no recipe"),
    "an unknown rule": (entry(aggregations=["balancd"]), "balancd"),
    "an override that is the study's": (entry(overrides=["run.seed=1"]), "run.seed=1"),
    "a run twice": (entry() + entry(order=2), "two entries of the plan ask for"),
    "no list": ({"stages": entry()}, "holds no list"),
}


@pytest.mark.parametrize(("plan", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_plan_is_refused_before_anything_runs(folder, plan, message):
    write_plan(plan)
    done = study()
    assert done.exit_code == 2 and message in done.stderr
    assert not (folder / "outputs").exists() and not (folder / "docs").exists()


def test_an_order_or_a_plan_that_does_not_exist_is_refused():
    assert "has no such order" in study("--orders", "9").stderr
    assert "is no plan; give a file, or one of rules" in CliRunner().invoke(app, ["study", "rulez"]).stderr


def test_the_plan_of_the_package_is_that_of_the_page():
    """docs/study.md: runs by order, their stages and rules."""
    plan, sizes = read_plan("rules"), {}
    for each in plan:
        sizes[each["order"]] = sizes.get(each["order"], 0) + len(each["aggregations"]) * len(each["seeds"])
    assert sizes == {0: 18, 1: 80, 2: 100, 3: 160, 4: 2, 5: 9}
    rules = {(each["stage"], each["order"]): tuple(each["aggregations"]) for each in plan if each["order"] not in RATES}
    others = ("token@equal-mass", *EXPLORATORY)
    at_own_rate = {(f"{stage}-lr-1e-4", 1): ("balanced",) for stage in SEARCH}
    assert rules == {(stage, 1): MAIN for stage in SEARCH} | at_own_rate | {(stage, 2): others for stage in SEARCH} | {
        (stage, 3): (*MAIN, *others) for stage in ARITHMETIC
    } | {("smollm2_135m_chain_sum", 5): MAIN}
    seeds = {order: {tuple(each["seeds"]) for each in plan if each["order"] == order} for order in sizes}
    ten = {tuple(range(1, 11))}
    assert seeds == {**{order: {(101,)} for order in RATES}, 1: ten, 2: ten, 3: ten, 5: {(1, 2, 3)}}


def test_every_stage_whose_rules_are_paired_seeds_its_responses():
    for stage in read_plan("rules"):
        if stage["order"] not in RATES:
            config = compose_recipe(stage["recipe"], *stage["overrides"])
            assert config.actor_rollout_ref.rollout.agent.default_agent_loop == "seeded_token_ids", stage["stage"]
