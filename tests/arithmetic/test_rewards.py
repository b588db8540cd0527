"""Claims about the reward function that verl calls."""

from balanced_agg.rewards import compute_score


def test_right_answer_scores_one_and_wrong_or_missing_answers_zero():
    def score(response: str) -> float:
        return compute_score("arithmetic", response, "8")["score"]

    assert [score("3+5=8;#8"), score("3+5=8;#7"), score("3+5=8;")] == [1.0, 0.0, 0.0]


def test_further_arguments_of_verl_are_accepted():
    fields = {"data_source": "arithmetic", "solution_str": "#8", "ground_truth": "8"}
    assert compute_score(**fields, extra_info={"index": 3}, reward_router_address=None)["score"] == 1.0
