"""Peaks, drops, means over benchmarks and intervals over seeds are those of hand arithmetic."""

import json
from math import sqrt

import numpy as np
import pandas as pd
import pytest

from balanced_agg.commands.compare import pictures
from balanced_agg.commands.compare.groups import settings
from balanced_agg.commands.compare.pictures import smooth
from balanced_agg.commands.compare.summary import final, of_accuracies, over_seeds, summarize
from balanced_agg.runs.run import read_runs
from tests.runs.made_runs import make_run, write_config, write_log


def test_the_interval_over_three_seeds_is_students():
    # mean 2, s = 1, t(.975, 2) = 4.302653 (tables): half width 4.302653 / sqrt(3).
    found = over_seeds({0: 1.0, 1: 2.0, 2: 3.0})
    assert found["mean"] == 2 and found["half_width"] == pytest.approx(4.302653 / sqrt(3), abs=1e-6)


def test_the_interval_over_two_seeds_is_wide():
    # s = sqrt(2) / 2, t(.975, 1) = 12.706205, over sqrt(2): half of t.
    assert over_seeds({0: 1.0, 5: 2.0})["half_width"] == pytest.approx(12.706205 / 2, abs=1e-6)


def test_one_seed_has_no_interval_and_none_has_no_mean():
    assert over_seeds({4: 1.5, 5: None}) == {"by_seed": {4: 1.5}, "mean": 1.5, "half_width": None}
    assert over_seeds({}) == {"by_seed": {}, "mean": None, "half_width": None}


def test_the_peak_is_the_first_of_the_highest_and_the_drop_what_was_lost_since():
    found = of_accuracies({0: 0.25, 20: 0.75, 40: 0.75, 60: 0.5})
    assert [found[name] for name in ("peak", "peak_step", "last", "drop")] == [0.75, 20, 0.5, 0.25]
    assert set(of_accuracies({}).values()) == {None}


def test_the_smoothed_drop_is_that_of_means_of_three_and_the_average_the_area_under_the_curve():
    found = of_accuracies({0: 0.0, 10: 1.0, 20: 0.5, 40: 0.0})
    assert found["smoothed_drop"] == 0  # means of three: .5, .5
    assert found["average"] == pytest.approx((10 * 0.5 + 10 * 0.75 + 20 * 0.25) / 40)
    assert of_accuracies({5: 0.5}) | {"peak_step": 0} == of_accuracies({0: 0.5})
    assert of_accuracies({0: 0.75, 10: 0.5})["smoothed_drop"] is None


def test_steps_to_a_level_are_the_first_with_it_and_the_level_is_one_that_every_run_has_reached(tmp_path):
    assert of_accuracies({0: 0.25, 5: 0.5, 10: 0.25}, 0.5)["steps_to_level"] == 5
    assert of_accuracies({0: 0.25}, 0.5)["steps_to_level"] is None
    paths = [
        make_run(tmp_path, seed=0, accuracies={0: 0.5, 2: 1.0, 4: 0.75}),
        make_run(tmp_path, seed=1, accuracies={0: 0.5, 2: 0.5, 4: 0.625}),
    ]
    (group,) = summary_of(tmp_path, *paths)["settings"][0]["groups"]
    numbers = group["benchmarks"]["arithmetic mean@2"]
    assert numbers["level"] == 0.625 and numbers["steps_to_level"]["by_seed"] == {"0": 2, "1": 4}


def test_a_run_that_ends_at_its_peak_has_dropped_by_nothing():
    assert of_accuracies({0: 0.25, 20: 0.5})["drop"] == 0


def test_final_values_are_means_of_the_last_tenth_of_the_steps():
    assert final({step: float(step) for step in range(1, 41)}) == (37 + 38 + 39 + 40) / 4
    assert final({step: float(step) for step in range(1, 6)}) == 5
    assert final({}) is None


def summary_of(tmp_path, *paths):
    return json.loads(json.dumps(summarize(settings(read_runs(paths)), [])))


def test_a_groups_numbers_are_means_over_its_seeds(tmp_path):
    paths = [
        make_run(tmp_path, seed=0, accuracies={0: 0.5, 2: 1.0, 4: 0.75}),
        make_run(tmp_path, seed=1, accuracies={0: 0.5, 2: 0.5, 4: 0.625}),
    ]
    (group,) = summary_of(tmp_path, *paths)["settings"][0]["groups"]
    numbers = group["benchmarks"]["arithmetic mean@2"]
    assert numbers["peak"]["by_seed"] == {"0": 1.0, "1": 0.625} and numbers["peak"]["mean"] == 0.8125
    assert numbers["peak_step"]["by_seed"] == {"0": 2, "1": 4}
    assert numbers["last"]["mean"] == 0.6875 and numbers["drop"]["mean"] == 0.125
    # Values .75 and .625: s / sqrt(2) is half their distance.
    assert numbers["last"]["half_width"] == pytest.approx(12.706205 * 0.0625, abs=1e-6)


def test_the_mean_over_benchmarks_is_unweighted_and_taken_where_all_were_logged(tmp_path):
    one, two = "val-core/openai/gsm8k/acc/mean@4", "val-core/aime/acc/mean@32"
    write_log(
        tmp_path / "run/metrics.jsonl",
        [(0, {one: 0.5, two: 0.0}), (2, {one: 1.0}), (4, {one: 0.75, two: 0.25})],
    )
    write_config(tmp_path / "run", "balanced", 0, total_steps=4)
    (setting,) = summary_of(tmp_path, str(tmp_path / "run"))["settings"]
    assert setting["benchmarks"] == ["aime mean@32", "openai/gsm8k mean@4", "mean"]
    (group,) = setting["groups"]
    assert group["benchmarks"]["mean"]["peak"]["mean"] == 0.5  # (.75 + .25) / 2; step 2 has one benchmark only
    assert group["benchmarks"]["openai/gsm8k mean@4"]["drop"]["mean"] == 0.25


def test_the_positive_share_is_that_of_the_rule_the_run_trains_with(tmp_path):
    shares = {
        f"aggregation/{aggregation}/positive_share": value
        for aggregation, value in (("token", 0.25), ("balanced", 0.5))
    }
    paths = [make_run(tmp_path, mode, **shares) for mode in ("group-token-mean", "balanced")]
    groups = summary_of(tmp_path, *paths)["settings"][0]["groups"]
    assert {group["mode"]: group["final"]["positive_share"]["mean"] for group in groups} == {
        "balanced": 0.5,
        "group-token-mean": 0.25,
    }


def test_a_curve_has_the_steps_that_every_seed_has():
    def over_seeds(*series):
        return pictures.over_seeds(list(map(pd.Series, series)))

    found = over_seeds({1: 2.0, 0: 1.0, 2: 9.0}, {0: 3.0, 1: 4.0})
    assert found.index.tolist() == [0, 1]
    assert found.to_dict("list") == {"mean": [2, 3], "min": [1, 2], "max": [3, 4]}
    assert len(over_seeds({0: 1.0}, {1: 1.0})) == len(over_seeds()) == 0


def test_smoothing_keeps_a_straight_line_away_from_its_ends():
    line = {step: 2.0 * step for step in range(30)}
    smoothed = smooth(pd.Series(line))
    assert list(smoothed.index) == list(line)
    np.testing.assert_allclose([smoothed[step] for step in range(5, 25)], [line[step] for step in range(5, 25)])
    assert smoothed[0] == np.mean([2.0 * step for step in range(6)])
