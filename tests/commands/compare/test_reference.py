"""A reference stands beside runs that it fits, with the error that drawing responses gives, and beside no others."""

import json
from math import sqrt

import pytest
from balanced_agg.data.registry import BENCHMARKS
from typer.testing import CliRunner

from balanced_agg.commands.cli import app
from balanced_agg.commands.compare.reference import read_reference
from balanced_agg.loss.rules import AGGREGATIONS
from tests.runs.made_runs import write_config, write_log
from tests.test_recipes import PAPER_RECIPES

REFERENCE = """
source: a table
problems: {easy: 100, hard: 50}
accuracy:
  arithmetic: {balanced: 0.5, group-token-mean: 0.25}
"""
EASY, HARD = "val-core/easy/acc/mean@4", "val-core/hard/acc/mean@2"
# Variance of the mean of both: p (1 - p) / (problems * k) over 2 squared.
VARIANCE = {"balanced": (0.25 / 400 + 0.09 / 100) / 4, "group-token-mean": (0.16 / 400 + 0.25 / 100) / 4}
LAST = {"balanced": {EASY: 0.5, HARD: 0.1}, "group-token-mean": {EASY: 0.2, HARD: 0.5}}


def half_width(variance: float) -> object:
    return pytest.approx(1.96 * sqrt(variance))


@pytest.fixture
def runs(tmp_path) -> list[str]:
    """`balanced` with two seeds, token and sequence with one each."""
    paths = []
    for mode, seed in (("balanced", 0), ("balanced", 1), ("group-token-mean", 0), ("seq-mean-token-mean", 0)):
        folder = tmp_path / f"arithmetic-{mode}-seed{seed}"
        write_log(folder / "metrics.jsonl", [(0, {EASY: 0.0, HARD: 0.0}), (1, LAST.get(mode, LAST["balanced"]))])
        write_config(folder, mode, seed, total_steps=1)
        paths.append(str(folder))
    return paths


def compare(folder, runs, text=REFERENCE, *options):
    file = folder / "reference.yaml"
    file.write_text(text)
    return CliRunner().invoke(app, ["compare", *runs, "--reference", str(file), *map(str, options)])


def test_differences_and_their_errors_are_those_of_hand_arithmetic(tmp_path, runs):
    (setting,) = json.loads(compare(tmp_path, runs, REFERENCE, "--json").stdout)["settings"]
    rows = {row["name"]: row for row in setting["reference"]["rows"]}
    assert list(rows) == ["balanced", "group-token-mean", "balanced - group-token-mean"], "no other mode is published"
    own, other = VARIANCE.values()
    expected = {
        "balanced": (0.3, own / 2, 0.5, own),  # two seeds
        "group-token-mean": (0.35, other, 0.25, other),
        "balanced - group-token-mean": (-0.05, own / 2 + other, 0.25, own + other),
    }
    for name, (ours, variance, theirs, of_theirs) in expected.items():
        row = rows[name]
        assert row["ours"] == {"mean": pytest.approx(ours), "half_width": half_width(variance)}
        assert row["reference"] == {"mean": pytest.approx(theirs), "half_width": half_width(of_theirs)}
        assert row["difference"] == {
            "mean": pytest.approx(ours - theirs),
            "half_width": half_width(variance + of_theirs),
        }


def test_a_reward_below_zero_has_an_error_of_zero(tmp_path):
    metrics = {EASY.replace("acc", "reward"): -0.5, HARD.replace("acc", "reward"): 2.0}
    write_log(tmp_path / "run/metrics.jsonl", [(0, metrics), (1, metrics)])
    write_config(tmp_path / "run", "balanced", 0, total_steps=1)
    (setting,) = json.loads(compare(tmp_path, [str(tmp_path / "run")], REFERENCE, "--json").stdout)["settings"]
    assert setting["reference"]["rows"][0]["ours"] == {"mean": 0.75, "half_width": 0}


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [("arithmetic", "another", "it has another"), ("hard: 50", "other: 50", "it is the mean over easy, other")],
    ids=["recipe", "benchmarks"],
)
def test_what_a_reference_does_not_fit_is_told_and_not_drawn(tmp_path, runs, old, new, why):
    done = compare(tmp_path, runs, REFERENCE.replace(old, new))
    assert done.exit_code == 0 and "reference %" not in done.stdout
    assert f"Nothing of the reference stands beside these runs: {why}" in done.stdout


def test_the_picture_of_accuracy_and_the_overview_have_it_and_no_other(tmp_path, runs):
    compare(tmp_path, runs, REFERENCE, "--out", tmp_path / "with")
    compare(tmp_path, runs, REFERENCE.replace("arithmetic", "another"), "--out", tmp_path / "without")
    names = {path.name for path in (tmp_path / "with").glob("*.png")}
    changed = {
        name for name in names if (tmp_path / "with" / name).read_bytes() != (tmp_path / "without" / name).read_bytes()
    }
    assert changed == {"validation_accuracy.png", "comparison.png"} < names
    assert "beside a table" in (tmp_path / "with/report.html").read_text()


@pytest.mark.parametrize(
    ("old", "new", "names"),
    [
        ("easy: 100", "easy: none", "problems.easy"),
        ("easy: 100", "easy: 0", "problems.easy"),
        ("balanced: 0.5", "balanced: 50", "accuracy.arithmetic.balanced"),
        ("{balanced: 0.5, group-token-mean: 0.25}", "0.5", "accuracy.arithmetic"),
        ("problems: {easy: 100, hard: 50}", "problems: {}", "problems"),
        ("accuracy:", "accuracies:", "accuracy"),
        (REFERENCE, "", "accuracy"),
        ("source: a table", "source: *a", "reference.yaml"),
    ],
)
def test_a_file_that_is_no_reference_is_refused_with_the_key(tmp_path, runs, old, new, names):
    done = compare(tmp_path, runs, REFERENCE.replace(old, new))
    assert done.exit_code == 2 and names in done.stderr and len(done.stderr.splitlines()) == 1


def test_the_papers_table_is_of_our_recipes_aggregations_and_benchmarks():
    paper = read_reference("paper")
    assert sorted(paper.accuracy) == sorted(PAPER_RECIPES)
    modes = {AGGREGATIONS[name] for name in ("balanced", "token", "sequence")}
    assert all(set(published) == modes for published in paper.accuracy.values())
    problems = {dataset.data_source or dataset.name: dataset.problems for dataset in BENCHMARKS}
    assert set(paper.problems) == set(problems)
    assert all(count in problems[name] for name, count in paper.problems.items())
