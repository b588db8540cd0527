"""The report of a record: the same each time, and honest about what has not run."""

import re
from dataclasses import replace
from statistics import fmean

import pytest

from balanced_agg.commands.compare.summary import of_accuracies
from balanced_agg.commands.study.hypotheses import AT_RATE
from balanced_agg.commands.study.pictures import pictures
from balanced_agg.commands.study.record import Record, StudyRun
from balanced_agg.commands.study.report import files, report
from tests.commands.study.made_study import FEW, PLAN, made_record, made_run

pytestmark = pytest.mark.usefixtures("few_resamples")


@pytest.fixture(scope="module")
def record(few_resamples) -> Record:
    """Three seeds of orders 1 and 2 and one of the order 0; a rule comes apart."""
    return made_record({("token", "drop"): 0.1}, orders=(0, 1, 2), plan=FEW)


@pytest.fixture(scope="module")
def text(record) -> str:
    return report(record, ["a.png"])


def test_the_same_record_has_the_same_report(record, text):
    assert report(record, ["a.png"]) == text


def test_of_an_order_that_is_not_complete_runs_are_counted_and_no_number_is_told():
    """Whatever its runs have shown, the report and its pictures are the same."""

    def told(effects, lacking) -> dict[str, bytes]:
        record = made_record(effects, orders=(0, 1, 2), plan=FEW)
        for key in lacking:
            record.runs[key] = replace(record.runs[key], finished=False)
        return files(record)

    lacking = [
        ("search-length_gap", "dr_grpo", 2),
        ("search-length_gap", "token", 2),
        ("search-length_gap-lr-5e-5", "token", 101),
    ]
    moved = ("accuracy", "drop", "aggregation/negative_length")
    effects = {(rule, what): 0.1 for rule in ("token", "dr_grpo") for what in moved}
    none = told({}, lacking)
    text = none["report.md"].decode()
    assert none == told(effects, lacking) and [*none] == ["report.md"]
    assert told({}, lacking[:1]) != told(effects, lacking[:1])
    assert "**Order 1 is not complete: 23 of 24 runs. Its numbers are told when it is.**" in text
    assert "Order 3 has not been run: 0 of 48 runs." in text
    assert "| 1 | search-length_gap | stage=search-length_gap | 8 of 9 | 0.62 | token 2 |" in text
    assert "search-length_gap: all of 3 seeds" in text  # whether the first batches agree is no result
    assert "## Means" not in text and "Learning rate" not in text and "### (" not in text


def test_of_a_complete_order_verdicts_are_final_but_for_those_that_need_another():
    text = report(made_record(plan=FEW), [])
    assert "Order 1 is complete: 24 runs." in text and "| (e) Balanced is more stable | not seen in 16 of 16 |" in text
    assert "| (d) Balanced is never far from the better of the two | open: 4 of 8 intervals (not final) |" in text


def test_runs_that_come_apart_are_shown_around_their_highest_validations(record, text):
    (row,) = [line for line in text.split("\n") if line.startswith("| search-length_gap | token | 3 | ")]
    average = fmean(
        of_accuracies(record.runs["search-length_gap", "token", seed].accuracy)["average"] for seed in (1, 2, 3)
    )
    assert row.endswith(" | 1, 2, 3 |") and f" | {100 * average:.2f} ± " in row
    shown = text.split("`search-length_gap`, `token`, seed 2; in brackets the median of the other 2 seeds:")[1]
    steps = [int(row.split("|")[1]) for row in shown.strip().split("\n\n")[0].split("\n")[2:]]
    peak = steps[9] + 1
    assert steps == [step for step in range(peak - 10, peak + 11) if step != peak]
    entropy = record.runs["search-length_gap", "token", 2].series["actor/entropy"][steps[0]]
    assert f" {entropy:.3f} (" in shown.split("\n")[4]


def test_learning_rates_exploratory_rules_and_first_batches_are_told(text):
    assert "## Learning rate" in text and "| 5e-5 | " in text
    highest = re.search(r"Highest at (\S+); of each rule at: balanced (\S+), ", text)
    rows = {row.split(" | ")[0]: row.split(" | ") for row in re.findall(r"^\| (\de-\d .*) \|$", text, re.MULTILINE)}
    assert list(rows) == ["5e-5", "1e-4", "2e-4"] and {row[-1] for row in rows.values()} == {"6"}
    assert float(rows[highest[1]][4]) == max(float(row[4]) for row in rows.values())
    assert float(rows[highest[2]][1]) == max(float(row[1]) for row in rows.values())
    assert "| dr_grpo@equal-mass | search-length_gap | 3 |" in text
    assert "search-length_gap: all of 3 seeds" in text


def test_a_first_batch_that_differs_is_named():
    record = made_record(plan=FEW)
    record.runs["search-length_gap", "token", 2].series["critic/score/mean"][1] += 0.1
    assert "search-length_gap: all but 2 of 3 seeds; search-length_spread: all of 3" in report(record, [])
    for seed in (1, 3):
        record.runs["search-length_gap", "token", seed].series["critic/score/mean"][1] += 0.1
    assert "search-length_gap: none of 3 seeds; " in report(record, [])


def test_of_no_run_there_is_a_report_without_a_picture():
    assert "There is no picture of them yet." in report(Record(PLAN, {}), []) and pictures(Record(PLAN, {})) == {}


def record_of(stage: str, rules: list[str], seeds: list[int], *beside: StudyRun) -> Record:
    """That of a plan of one stage, complete, with runs of an earlier plan beside."""
    runs = [*(made_run(stage, rule, seed) for rule in rules for seed in seeds), *beside]
    entry = {"stage": stage, "order": runs[0].order, "aggregations": rules, "seeds": seeds, "overrides": []}
    return Record([entry], {run.key: run for run in runs})


def test_stages_of_another_plan_and_runs_without_validation_have_a_report():
    silent = replace(made_run("search-length_gap-lr-5e-5", "token", 101), series={})
    text = report(record_of("search-mine", ["token"], [101], silent), [])  # of order 0, without a rate
    assert "## Learning rate" not in text and "| search-mine | token | 1 | " in text


def test_a_stage_of_no_hypothesis_has_differences_and_what_could_have_been_seen():
    text = report(record_of("search-mine", ["balanced", "token"], [1, 2, 3]), [])
    rows = text.split("## Other stages")[1].split("\n\n")[2].strip().split("\n")[2:]
    assert [row.split(" | ")[1:4] for row in rows] == [
        ["token", label, "3"] for label in ("average, points", "last, points", "late negative length, tokens")
    ]
    for row in rows:
        interval, visible = re.fullmatch(r".* ± (\S+) \| (\S+) \|", row).groups()
        assert float(visible) == pytest.approx(1.3 * float(interval), rel=0.05)  # with 3 pairs


def test_at_its_own_rate_a_rule_is_told_once_more(text):
    """`balanced` of order 1 at 1e-4, `token` and `sequence@equal-mass` as they are."""
    again = text.split("## With each rule at its own best learning rate")[1]
    assert "(a)" not in again and "(b)" in again and "| 3 | " in again
    plan = [entry for entry in FEW if entry["order"] != 1 or not AT_RATE.fullmatch(entry["stage"])]
    assert "own best learning rate" not in report(made_record(plan=plan), [])


def test_there_are_two_pictures_small_enough_to_commit():
    drawn = pictures(made_record(plan=FEW))
    assert list(drawn) == ["accuracy-by-step.png", "differences-to-balanced.png"]
    assert all(1000 < len(png) < 200_000 for png in drawn.values())


@pytest.mark.evidence
def test_pictures_are_the_same_for_the_same_runs_and_differ_where_accuracies_do():
    one, again, other = (pictures(made_record(effects, plan=FEW)) for effects in ({}, {}, {("token", "accuracy"): 0.1}))
    assert one == again and not {*one.values()} & {*other.values()}
