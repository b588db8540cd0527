"""Setting, mode and seed come from the config, else from the name."""

import pytest

from balanced_agg.runs.run import identify


@pytest.mark.parametrize(
    "name, expected",
    [
        ("arithmetic-balanced-seed1", ("arithmetic", "balanced", 1)),
        ("a-b-seq-mean-token-mean-seed10", ("a-b", "seq-mean-token-mean", 10)),
        ("a-group-token-mean-seed0", ("a", "group-token-mean", 0)),
        ("a-token-mean-seed0", ("a", "token-mean", 0)),
        ("a-seq-mean-token-sum-norm-seed0", ("a", "seq-mean-token-sum-norm", 0)),
        ("seq-mean-token-mean-seed1", ("", "seq-mean-token-mean", 1)),
        ("balanced-seed2", ("", "balanced", 2)),
        ("a-balanced@equal-mass-seed1", ("a", "balanced@equal-mass", 1)),
        ("a-delta-l:0.5@equal-mass-seed1", ("a", "delta-l:0.5@equal-mass", 1)),
        ("a-lambda-grpo:-2-seed1", ("a", "lambda-grpo:-2", 1)),
        ("my_grpo-seed2", ("", "my_grpo", 2)),
    ],
)
def test_a_name_is_split_before_the_longest_known_mode(name, expected):
    assert identify(name) == expected


def test_the_config_wins_over_the_name():
    config = {
        "run": {"recipe": "arithmetic", "seed": 3},
        "actor_rollout_ref": {"actor": {"loss_agg_mode": "balanced"}},
        "trainer": {"experiment_name": "renamed-token-mean-seed9"},
    }
    assert identify("folder-token-mean-seed8", config) == ("arithmetic", "balanced", 3)


def test_a_config_of_plain_verl_takes_its_setting_from_the_experiment_name():
    config = {
        "data": {"seed": 4},
        "actor_rollout_ref": {"actor": {"loss_agg_mode": "token-mean"}},
        "trainer": {"experiment_name": "qwen3-token-mean-seed4"},
    }
    assert identify("anything", config) == ("qwen3", "token-mean", 4)


def test_a_config_without_a_seed_takes_it_from_the_name():
    config = {"data": {"seed": None}, "actor_rollout_ref": {"actor": {"loss_agg_mode": "balanced"}}}
    assert identify("qwen3-balanced-seed5", config) == ("qwen3", "balanced", 5)


@pytest.mark.parametrize("name", ["metrics", "arithmetic-balanced", "arithmetic-balanced-seed", "balanced-seedx"])
def test_a_name_that_does_not_tell_says_what_to_rename_it_to(name):
    with pytest.raises(ValueError, match=r"rename it to SETTING-MODE-seed<k>.*\.hydra/config\.yaml"):
        identify(name)
