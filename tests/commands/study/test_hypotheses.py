"""Verdicts on made runs with a known effect, with none, and with the opposite one; their statistics by hand."""

from dataclasses import replace
from math import exp, sqrt

import numpy as np
import pytest

from balanced_agg.commands.study.hypotheses import (
    ARITHMETIC,
    MAIN,
    SEARCH,
    at_own_rates,
    cells_of,
    hypotheses,
    instrument,
    interaction,
    judged,
    mcnemar,
    negative_lengths,
    never_far,
    numbers,
    paired_test,
    stability,
    welch,
    worst_regrets,
)
from balanced_agg.commands.study.hypotheses import Test as OneTest  # pytest would collect it
from tests.commands.study.made_study import ACCURACY, made_record, made_run

pytestmark = pytest.mark.usefixtures("few_resamples")
SEQUENCE = "sequence@equal-mass"
LONGER = (SEQUENCE, "aggregation/negative_length")


def again(*values):
    return pytest.param(*values, marks=pytest.mark.evidence)


LETTERS = {"a": instrument, "b": negative_lengths, "c": interaction, "d": never_far, "e": stability}


def found(letter: str, record, token: str = "token"):
    return LETTERS[letter](cells_of(record.runs.values()), token)


def verdicts(hypothesis) -> set[str]:
    return {test.verdict for test in hypothesis.tests}


@pytest.mark.parametrize(("effect", "verdict"), [(5.0, "seen"), (0.0, "not seen"), (-5.0, "contrary")])
def test_b_is_seen_where_wrong_responses_are_longer_under_sequence(effect, verdict):
    hypothesis = found("b", made_record({LONGER: effect}))
    assert verdicts(hypothesis) == {verdict} and len(hypothesis.tests) == 4
    assert all(test.told["mean"] == pytest.approx(effect, abs=0.5) for test in hypothesis.tests)
    assert all(("ends below 1 token" in test.note) == (effect <= 0) for test in hypothesis.tests)


def test_a_is_seen_where_the_share_follows_the_gap_and_contrary_where_it_runs_against_it():
    record = made_record()
    assert verdicts(found("a", record)) == {"seen"} and len(found("a", record).tests) == 6
    share = "aggregation/token/positive_share"
    runs = {
        key: replace(run, series=run.series | {share: {step: 1 - value for step, value in run.series[share].items()}})
        for key, run in record.runs.items()
    }
    told = {(test.number, test.stage): test.verdict for test in found("a", replace(record, runs=runs)).tests}
    assert {told["share_follows_gap", stage] for stage in SEARCH} == {"contrary"}
    assert told["early_share", "search-length_gap"] == "contrary"
    assert told["early_share_distance", "search"] == "seen"


@pytest.mark.parametrize(("effect", "verdict"), [(0.05, "seen"), again(0.0, "not seen"), again(-0.05, "contrary")])
def test_c_is_the_interaction_of_rule_and_regime(effect, verdict):
    runs = made_record().runs
    better = made_record({("token", "accuracy"): effect}).runs
    runs |= {key: run for key, run in better.items() if key[0] == "search-length_spread"}
    record = replace(made_record(), runs=runs)
    search, arithmetic = found("c", record).tests
    assert search.verdict == verdict and search.told["mean"] == pytest.approx(effect, abs=0.015)
    # The other test of the family has not been made, and counts.
    assert arithmetic.verdict == "0 pairs: too few"
    assert search.p_adjusted == pytest.approx(min(1.0, 2 * search.told["p"]))


@pytest.mark.parametrize(
    ("effects", "verdict"),
    [
        ({}, "seen"),
        again({("balanced", "accuracy"): 0.05}, "seen"),
        ({("balanced", "accuracy"): -0.02}, "not seen"),
        again({("balanced", "accuracy"): -0.05}, "contrary"),
    ],
)
def test_d_is_seen_where_all_eight_intervals_lie_above_two_points_below_the_other(effects, verdict):
    hypothesis = found("d", made_record(effects, orders=(1, 3), wanted=lambda key: key[1] in MAIN))
    assert hypothesis.verdict == verdict and len(hypothesis.tests) == 8


def test_d_is_open_while_a_stage_has_not_run_unless_an_interval_has_refuted_it():
    assert found("d", made_record()).verdict == "open: 4 of 8 intervals"
    assert found("d", made_record({("balanced", "accuracy"): -0.05})).verdict == "contrary"


UNSTABLE = (("grad_norm spread", 3.0), ("entropy spread", 3.0), ("drop", 0.1))


@pytest.mark.parametrize(("rules", "verdict"), [(("token", SEQUENCE), "seen"), (("balanced",), "contrary")])
def test_e_is_seen_where_the_others_are_less_stable(rules, verdict):
    hypothesis = found("e", made_record({(rule, what): size for rule in rules for what, size in UNSTABLE}))
    # Ten runs come apart under one rule and none under the other: p = 2 * .5^10, adjusted at most 16 times.
    assert verdicts(hypothesis) == {verdict} and len(hypothesis.tests) == 16
    assert [test.told["p"] for test in hypothesis.tests if test.number == "apart"] == [pytest.approx(2 * 0.5**10)] * 4


def test_e_is_not_seen_where_nothing_differs():
    hypothesis = found("e", made_record())
    assert verdicts(hypothesis) == {"not seen"}
    assert [test.number for test in hypothesis.untested] == ["drop"] * 4


def test_scale_or_balance_has_token_with_equal_mass_in_its_place_and_families_of_its_own():
    effects = {("token", what): size for what, size in UNSTABLE}
    record = made_record(effects, orders=(1, 2))
    cells = cells_of(record.runs.values())
    scaled = hypotheses(cells, "token@equal-mass")
    assert [each.letter for each in scaled] == ["b", "d", "e"]
    assert all(2 in each.orders for each in scaled)
    assert verdicts(scaled[2]) == {"not seen"}
    assert verdicts(found("e", record)) == {"seen", "not seen"}
    assert [each.letter for each in hypotheses({})] == [*LETTERS]


def test_the_correction_is_over_the_tests_of_one_hypothesis():
    record = made_record({LONGER: 0.15})
    for hypothesis in hypotheses(cells_of(record.runs.values())):
        p = sorted(1.0 if test.told["p"] is None else test.told["p"] for test in hypothesis.tests)
        least = min(hypothesis.tests, key=lambda test: 2 if test.p_adjusted is None else test.p_adjusted)
        if hypothesis.letter != "d":
            assert least.p_adjusted == pytest.approx(min(1.0, p[0] * len(p)))


def test_two_pairs_have_no_verdict():
    record = made_record({LONGER: 5.0}, wanted=lambda key: key[2] < 3)
    assert verdicts(found("b", record)) == {"2 pairs: too few"}


def test_differences_that_are_all_equal_are_no_test_and_none_at_all_is_not_seen():
    found = {}
    for ours, others in ((1.0, 0.5), (0.5, 0.5)):
        cells = {
            ("stage", rule): {seed: {"average": value} for seed in (1, 2, 3)}
            for rule, value in (("a", ours), ("b", others))
        }
        (found[ours],) = judged([paired_test(cells, "stage", "average", "a", "b", 1)])
    assert (found[1.0].verdict, found[0.5].verdict) == ("no test: all differences are equal", "not seen")


@pytest.mark.parametrize(("ours", "others", "p"), [(6, 0, 2 / 64), (0, 6, 2 / 64), (5, 1, 14 / 64), (3, 3, 1.0)])
def test_mcnemar_is_that_of_hand_arithmetic(ours, others, p):
    a = [1.0] * ours + [0.0] * others + [1.0, 0.0]
    b = [0.0] * ours + [1.0] * others + [1.0, 0.0]
    told = mcnemar(dict(enumerate(a)), dict(enumerate(b)))
    assert (told["ours_alone"], told["others_alone"], told["p"]) == (ours, others, pytest.approx(p))


def test_where_no_seed_differs_mcnemar_has_no_test():
    assert mcnemar({1: 1.0, 2: 0.0}, {1: 1.0, 2: 0.0})["p"] is None


def test_a_seed_that_one_rule_lacks_is_left_out_of_its_pairs_alone_and_named():
    record = made_record({LONGER: 5.0}, wanted=lambda key: key != ("search-length_gap", "token", 4))
    told = {test.between: test for test in found("b", record).tests if test.stage == "search-length_gap"}
    assert told[f"{SEQUENCE} − token"].told["pairs"] == 9
    assert told[f"{SEQUENCE} − token"].note == "token lacks 4"
    assert told[f"{SEQUENCE} − balanced"].told["pairs"] == 10 and told[f"{SEQUENCE} − balanced"].note == ""


def test_a_run_that_has_not_finished_counts_for_nothing():
    record = made_record()
    key = ("search-length_gap", "token", 4)
    record.runs[key] = replace(record.runs[key], finished=False)
    test = paired_test(cells_of(record.runs.values()), key[0], "average", "token", "balanced", 1)
    assert (test.told["pairs"], test.note) == (9, "token lacks 4")


def test_numbers_of_a_run_by_hand():
    run = made_run("search-length_gap", "token", 1)
    steps = range(1, 121)
    series = {
        "aggregation/negative_length": {step: float(step) for step in steps},
        "aggregation/within_group_length_cv": {step: float(step) for step in range(121)},
        "actor/grad_norm": {step: exp(step % 2) if step != 100 else 0.0 for step in steps},
        "actor/entropy": {step: 0.2 + 0.1 * (step % 2) for step in steps},
        "response_length/clip_ratio": {step: 0.0 if step <= 90 else 0.2 * (step % 2) for step in steps},
        ACCURACY["search"]: {0: 0.2, 10: 0.4, 20: 0.6, 30: 0.5, 120: 0.55},
        "aggregation/length_gap_within_group": {1: 0.1, 2: 0.3, 3: 0.2},
        "aggregation/token/positive_share": {1: 0.5, 2: 0.9, 3: 0.8, 4: 0.0},
        "aggregation/token/drift": {1: 3.0, 2: 1.0, 3: 2.0},
    }
    found = numbers(replace(run, series=series))
    assert found["negative_length"] == 105.5  # the mean of 91 … 120
    assert found["early_cv"] == 5.5  # that of 1 … 10, without the step 0
    assert found["entropy_spread"] == pytest.approx(sqrt(30 * 0.05**2 / 29))
    # Without the norm of 0 there are 15 logarithms of 1 and 14 of 0.
    assert found["grad_norm_spread"] == pytest.approx(sqrt(15 * 14 / 29 / 28))
    assert found["smoothed_drop"] == 0.0
    assert found["apart"] == 1.0  # .1 of the late responses cut
    assert (found["share_follows_gap"], found["drift_follows_gap"]) == (pytest.approx(1.0), pytest.approx(-1.0))
    assert found["early_share"] == pytest.approx(0.55) and found["early_share_distance"] == pytest.approx(0.05)
    assert found["drop"] == pytest.approx(0.05)


def test_what_a_run_has_not_logged_is_no_number():
    assert set(numbers(replace(made_run("search-length_gap", "token", 1), series={})).values()) == {None}


@pytest.mark.parametrize(("drop", "apart"), [(0.049, 0.0), (0.05, 1.0)])
def test_a_smoothed_drop_of_five_points_is_coming_apart(drop, apart):
    run = made_run("search-length_gap", "token", 1)
    accuracies = {step: 0.5 for step in range(0, 91, 10)} | {step: 0.5 - drop for step in (100, 110, 120)}
    assert numbers(replace(run, series=run.series | {ACCURACY["search"]: accuracies}))["apart"] == apart


def test_welchs_interval_by_hand():
    told = welch({1: 1.0, 2: 2.0, 3: 3.0}, {1: 0.0, 2: 2.0, 3: 4.0, 4: 6.0})
    # Variances 1 and 20/3 over 3 and 4: se² = 1/3 + 5/3 = 2, df = 2² / ((1/3)² / 2 + (5/3)² / 3) = 4.0755.
    assert (told["pairs"], told["mean"]) == (3, -1.0)
    assert told["half_width"] == pytest.approx(2.7558 * sqrt(2), abs=2e-3)
    assert told["bootstrap"][0] < -1 < told["bootstrap"][1]


def test_the_worst_regret_is_that_over_the_stages_at_the_seeds_of_all_three():
    accuracies = {"balanced": (0.5, 0.4), "token": (0.6, 0.2), SEQUENCE: (0.3, 0.5)}
    cells = {
        (stage, rule): {seed: {"average": accuracies[rule][i]} for seed in (1, 2)}
        for i, stage in enumerate((SEARCH[0], ARITHMETIC[0]))
        for rule in MAIN
    }
    cells[SEARCH[0], "token"][3] = {"average": 0.0}  # a seed that the others lack
    told = worst_regrets(cells)
    assert [told["worst"][rule][0] for rule in MAIN] == pytest.approx([0.1, 0.3, 0.3])
    assert told["worst"]["balanced"][1:] == pytest.approx((0.1, 0.1))
    assert worst_regrets({}) == {"stages": {}, "worst": {}}


def test_at_its_own_rate_a_rules_cell_takes_the_place_of_the_stages():
    record = made_record(wanted=lambda key: key[0] in SEARCH)
    assert at_own_rates(record.runs) is None
    own = replace(made_run("search-length_gap-lr-5e-5", "token", 1), order=1)
    trial = made_run("search-length_gap-lr-5e-5", "balanced", 101)  # of order 0
    runs = at_own_rates(record.runs | {own.key: own, trial.key: trial})
    assert [key for key in runs if key[:2] == ("search-length_gap", "token")] == [("search-length_gap", "token", 1)]
    assert runs["search-length_gap", "token", 1].series is own.series
    assert runs["search-length_gap", "balanced", 1] is record.runs["search-length_gap", "balanced", 1]


@pytest.mark.evidence
def test_where_nothing_differs_one_family_in_twenty_has_a_verdict():
    draw, wrong = np.random.default_rng(0), 0
    for _ in range(300):
        cells = {
            (stage, rule): {seed: {"average": value} for seed, value in enumerate(draw.normal(size=10))}
            for stage in SEARCH
            for rule in MAIN
        }
        family: list[OneTest] = judged(
            [paired_test(cells, stage, "average", "balanced", rule, 1) for stage in SEARCH for rule in MAIN[1:]]
        )
        wrong += any(test.verdict != "not seen" for test in family)
    assert wrong / 300 < 0.05 + 3 * sqrt(0.05 * 0.95 / 300)
