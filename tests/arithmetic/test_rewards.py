"""Claims about the reward function that verl calls."""

import pytest

from balanced_agg.rewards import compute_score


def test_right_answer_scores_one_and_wrong_or_missing_answers_zero():
    assert compute_score("arithmetic", "3+5=8;#8", "8") == {"score": 1.0, "acc": 1.0}
    assert compute_score("arithmetic", "3+5=8;#7", "8") == {"score": 0.0, "acc": 0.0}
    assert compute_score("arithmetic", "3+5=8;", "8") == {"score": 0.0, "acc": 0.0}


def test_further_arguments_of_verl_are_accepted():
    fields = {"data_source": "arithmetic", "solution_str": "#8", "ground_truth": "8"}
    assert compute_score(**fields, extra_info={"index": 3}, reward_router_address=None)["score"] == 1.0


def test_unknown_data_source_is_an_error_that_names_the_known_ones():
    with pytest.raises(ValueError, match=r"'gsm8k'.*\['arithmetic'\]"):
        compute_score("gsm8k", "#8", "8")
