"""Differences by seed are those of hand arithmetic, and chance alone finds few."""

import numpy as np
import pytest
from scipy.stats import ttest_1samp, ttest_rel
from typer.testing import CliRunner

from balanced_agg.commands.cli import app
from balanced_agg.commands.compare.groups import settings
from balanced_agg.commands.compare.paired import detectable, difference, holm, paired
from balanced_agg.commands.compare.summary import summarize
from balanced_agg.commands.compare.table import tables_of
from balanced_agg.runs.run import read_runs
from tests.runs.made_runs import make_run


def test_the_interval_is_that_of_the_paired_test_at_the_seeds_of_both():
    a, b = {1: 0.5, 2: 0.625, 3: 0.75, 8: 0.0}, {1: 0.25, 2: 0.5, 3: 0.5, 9: 1.0}
    found = difference(a, b)
    # Differences .25, .125, .25: mean .625 / 3, s = .0721688, t(.975, 2) = 4.302653.
    assert (found["pairs"], found["mean"]) == (3, pytest.approx(0.625 / 3))
    assert found["half_width"] == pytest.approx(4.302653 * 0.0721688 / np.sqrt(3), abs=1e-6)
    assert found["p"] == pytest.approx(ttest_rel([0.5, 0.625, 0.75], [0.25, 0.5, 0.5]).pvalue)
    low, high = found["bootstrap"]
    assert 0.125 <= low < found["mean"] < high <= 0.25


def test_one_pair_or_equal_differences_have_a_mean_and_no_test():
    for a, b in (({1: 1.0}, {1: 0.5}), ({1: 1.0, 2: 2.0}, {1: 0.5, 2: 1.5})):
        found = difference(a, b)
        assert found["mean"] == 0.5 and found["p"] is found["half_width"] is found["bootstrap"] is None
    assert difference({1: 1.0}, {2: 1.0})["pairs"] == 0


@pytest.mark.parametrize("pairs", [2, 3, 10])
def test_four_of_five_studies_see_the_difference_that_is_told_as_detectable(pairs):
    draw = np.random.default_rng(0)
    shape = np.resize([-1.0, 1.0], pairs)
    told = difference(dict(enumerate(shape)), dict.fromkeys(range(pairs), 0.0))
    effect = detectable(told) / np.std(shape, ddof=1)
    studies = draw.normal(effect, 1, size=(4000, pairs))
    seen = ttest_1samp(studies, 0, axis=1).pvalue < 0.05
    assert seen.mean() == pytest.approx(0.8, abs=0.02)
    if pairs == 10:
        assert effect == pytest.approx(1.0, abs=0.05)  # docs/study.md


def test_of_differences_without_an_interval_nothing_is_detectable():
    assert detectable(difference({1: 1.0}, {1: 0.0})) is None


def test_holm_multiplies_the_least_p_by_all_tests_and_never_puts_a_larger_one_below_a_smaller():
    assert holm([0.01, None, 0.04, 0.03]) == [pytest.approx(0.03), None, pytest.approx(0.06), pytest.approx(0.06)]
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


@pytest.mark.evidence
def test_where_nothing_differs_one_table_in_twenty_has_an_adjusted_p_below_five_percent():
    draw, found = np.random.default_rng(0), 0
    for _ in range(400):
        tests = [difference(*(dict(enumerate(draw.normal(size=6))) for _ in range(2)))["p"] for _ in range(10)]
        found += min(holm(tests)) < 0.05
    assert found / 400 < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 400)


def made(tmp_path) -> list[str]:
    """Five seeds of two modes; at the end the second is better by some ten points, and a seed by as many."""
    paths = []
    for mode, better in (("balanced", 0.0), ("token-mean", 0.1)):
        for seed in range(5):
            accuracies = {0: 0.25, 2: 0.3 + seed / 20, 4: 0.3 + seed / 10 + better * (1 + seed / 50)}
            paths.append(make_run(tmp_path, mode=mode, seed=seed, accuracies=accuracies))
    return paths


def test_a_difference_that_seeds_hide_is_seen_by_pairs(tmp_path):
    (setting,) = summarize(settings(read_runs(made(tmp_path))), [], base="balanced")["settings"]
    (last,) = [row for row in setting["paired"] if row["quantity"] == "last"]
    assert (last["mode"], last["pairs"]) == ("token-mean", 5)
    assert last["mean"] == pytest.approx(0.104) and last["p_adjusted"] < 1e-3
    ours, others = (group["benchmarks"]["arithmetic mean@2"]["last"] for group in setting["groups"])
    assert ours["mean"] + ours["half_width"] > others["mean"]  # of either mode alone, the intervals overlap
    table = tables_of(setting)[-2]
    assert list(table.rows[0][:4]) == ["last, points", "token-mean", "5", "10.4 ± 0.4"]


def test_a_mode_without_common_seeds_is_told(tmp_path):
    (setting,) = summarize(settings(read_runs(made(tmp_path))), [], base="sequence")["settings"]
    assert setting["paired"] == [] and "No run under sequence" in setting["remarks"][-1]
    assert paired(setting, "token-mean")[0]["mean"] == pytest.approx(-0.104)


@pytest.mark.parametrize("name", ["token-mean", "batch_token"])
def test_the_command_takes_either_name_and_says_what_peaks_are_worth(tmp_path, name):
    done = CliRunner().invoke(app, ["compare", *made(tmp_path), "--paired", name])
    said = " ".join(done.stdout.split())
    assert "Each aggregation minus token-mean, by seed" in said and "<0.001" in said
    assert "A peak is the largest of noisy estimates, so peak and drop are biased upwards, more so with more" in said
