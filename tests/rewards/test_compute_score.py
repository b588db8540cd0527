"""Claims about the reward function as verl calls it, and about the grade-school sources."""

import json
import logging
import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from balanced_agg import rewards
from balanced_agg.rewards import KNOWN_SOURCES, compute_score
from balanced_agg.rewards.errors import GraderFailed
from tests.real_data import rows
from tests.rewards.adversarial import adversarial_responses

RIGHT = {"score": 1.0, "acc": 1.0, "grader_failed": 0.0}
WRONG = {"score": 0.0, "acc": 0.0, "grader_failed": 0.0}
FAILED = {"score": 0.0, "acc": 0.0, "grader_failed": 1.0}


@pytest.mark.parametrize("data_source", sorted(set(KNOWN_SOURCES) - {"livecodebench"}))
def test_every_source_grades_the_right_answer_one_and_the_others_zero_with_the_same_keys(data_source):
    shapes = {"arithmetic": "#{}", "search": "1+1=2+1=3x1+2=3+3=6+2={}!"}
    shape = shapes.get(data_source, "It follows.\n\n\\boxed{{{}}}")
    answer = "1232=8" if data_source == "search" else "8"
    assert compute_score(data_source, shape.format(8), answer) == RIGHT
    assert compute_score(data_source, shape.format(7), answer) == WRONG
    assert compute_score(data_source, "", answer) == WRONG


def test_livecodebench_goes_to_the_code_grader_with_the_options_that_were_set(monkeypatch):
    seen = []

    def grade_code(response, ground_truth, **options):
        seen.append((response, ground_truth, options))
        return True

    code = pytest.importorskip("balanced_agg.rewards.code")
    monkeypatch.setattr(code, "grade_code", grade_code)
    assert (
        compute_score("livecodebench", "r", "{}", sandbox_fusion_url="http://x", allow_unsandboxed_code=False) == RIGHT
    )
    assert seen == [("r", "{}", {"sandbox_fusion_url": "http://x", "allow_unsandboxed_code": False})]


def test_an_unknown_source_is_an_error_that_names_the_known_ones():
    with pytest.raises(ValueError, match=r"'gsm9k'.*'gsm8k'.*'math_dapo'"):
        compute_score("gsm9k", "#8", "8")


def test_an_unknown_option_is_an_error_that_names_it():
    with pytest.raises(TypeError, match="time_limits"):
        compute_score("math_500", "", "8", time_limits=3)
    with pytest.raises(ValueError, match="time_limit"):
        compute_score("math_500", "", "8", time_limit=0)


def test_what_verl_passes_along_is_accepted():
    fields = {"data_source": "aime_2024", "solution_str": r"\boxed{8}", "ground_truth": "8"}
    assert (
        compute_score(**fields, extra_info={"index": 3}, reward_router_address=None, reward_model_tokenizer=None)
        == RIGHT
    )


@pytest.mark.parametrize("data_source", ["math_500", "math_dapo", "gsm8k"])
@pytest.mark.parametrize("ground_truth", [True, math.nan, None, b"8", {"answer": "8"}])
def test_a_ground_truth_of_the_wrong_type_is_an_error(data_source, ground_truth):
    with pytest.raises(ValueError, match="ground_truth"):
        compute_score(data_source, r"\boxed{8}", ground_truth)


@pytest.mark.parametrize("data_source", ["amc", "math_dapo", "gsm8k", "chain_sum"])
@pytest.mark.parametrize("ground_truth", [8, 8.0, np.int64(8), np.float32(8)])
def test_a_ground_truth_may_be_a_number(data_source, ground_truth):
    for answer, score in (("8", RIGHT), ("8.0", RIGHT), ("80", WRONG), ("8.5", WRONG)):
        assert compute_score(data_source, rf"\boxed{{{answer}}}", ground_truth) == score


def test_a_failed_grader_scores_zero_is_counted_and_logs_one_warning(monkeypatch, caplog):
    def fail(*arguments):
        raise GraderFailed("no judgement within 5 s")

    monkeypatch.setattr(rewards.maths, "is_right", fail)
    with caplog.at_level(logging.DEBUG):
        assert compute_score("math_500", r"\boxed{8}", "8") == FAILED
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "no judgement within 5 s" in caplog.text


def test_a_pathological_answer_costs_only_its_own_score():
    hang = r"\boxed{9^{9^{9^{9}}}}"
    responses = [hang if index == 20 else rf"\boxed{{{index}+x}}" for index in range(60)]
    with ThreadPoolExecutor(8) as threads:
        results = list(
            threads.map(
                lambda index: compute_score("math_500", responses[index], f"x+{index}", time_limit=3), range(60)
            )
        )
    assert [result == RIGHT for result in results] == [index != 20 for index in range(60)]
    assert results[20] == FAILED


GSM8K_RIGHT = [
    "#### 1250",
    "#### 1,250",
    "#### $1,250",
    "We get 7.\n#### 1250\n",
    "#### 1250.00",
    "#### 1250 dollars of 2000",
    "#### 3\n#### 1250",
    r"\boxed{1250}",
    r"\boxed{\$1,\!250}",
    r"\boxed{5 \cdot 250 = 1250}",
    "The answer is 1,250.",
    "**Answer:** 1250 eggs",
    "She has $1,250.",
    "First 3, then 1250",
]
GSM8K_WRONG = [
    "",
    "#### ",
    "1250 ####",
    "#### -1250",
    "#### 125",
    "#### 12500",
    "1250, no, 1251",
    r"\boxed{1250} but \boxed{3}",
    "#### 1250\n#### 3",
    r"\boxed{} 1250",
    "The answer is 3, not 1250.",
    "#### 1250.5",
    "<think>#### 1250",
]


@pytest.mark.parametrize("data_source", ["gsm8k", "chain_sum"])
@pytest.mark.parametrize("ground_truth", ["1250", "1,250", "Five times 250.\n#### 1,250"])
def test_grade_school_answers_are_the_marked_number_else_the_last(data_source, ground_truth):
    for response in GSM8K_RIGHT:
        assert compute_score(data_source, response, ground_truth) == RIGHT, response
    for response in GSM8K_WRONG:
        assert compute_score(data_source, response, ground_truth) == WRONG, response


@pytest.mark.parametrize(
    ("response", "right", "wrong"),
    [
        (r"\boxed{\frac12}", "0.5", "1"),
        (r"\boxed{\frac{5}{2}}", "2.5", "5"),
        (r"\boxed{2\frac12}", "2.5", "2"),
        (r"\boxed{5 \cdot 4}", "20.5", "5"),
        ("#### 5/2", "2.5", "5"),
        ("#### 5*4=20", "20", "5"),
        ("#### 5 million", "5000000", "5"),
        (r"#### \boxed{5}", "5", "4"),
        (r"\boxed{3,5}", "35.5", "3"),
    ],
)
def test_a_grade_school_answer_is_the_whole_number_not_its_first_digits(response, right, wrong):
    assert compute_score("gsm8k", response, wrong) == WRONG
    if "cdot" not in response and "," not in response:  # left undone: no number at all
        assert compute_score("gsm8k", response, right) == RIGHT


def test_a_grade_school_ground_truth_without_a_number_is_an_error():
    with pytest.raises(ValueError, match="ground_truth"):
        compute_score("gsm8k", "#### 5", "five")


def test_real_gsm8k_solutions_grade_one_and_the_next_number_zero():
    for row in rows("gsm8k_test.jsonl"):
        solution, gold = row["answer"], row["answer"].rpartition("####")[2].strip()
        assert compute_score("gsm8k", solution, gold) == compute_score("gsm8k", solution, solution) == RIGHT
        assert compute_score("gsm8k", rf"The answer is $\boxed{{{gold}}}$.", gold) == RIGHT
        following = str(int(gold.replace(",", "")) + 1)
        assert compute_score("gsm8k", f"#### {following}", gold) == WRONG


def test_the_sources_graded_without_a_process_read_adversarial_responses_without_error():
    for response in adversarial_responses():
        for data_source in ("gsm8k", "arithmetic"):
            assert compute_score(data_source, response, "8")["grader_failed"] == 0.0


def test_a_json_ground_truth_offers_a_choice_to_every_maths_source():
    for data_source in ("math_dapo", "minerva", "olympiadbench"):
        assert compute_score(data_source, r"\boxed{7}", json.dumps(["8", "7"])) == RIGHT
        assert compute_score(data_source, r"\boxed{6}", json.dumps(["8", "7"])) == WRONG
