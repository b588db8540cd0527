"""Claims about every embedded task: training apart from validation, and an alphabet that holds all it writes."""

import random

import pytest

from balanced_agg.arithmetic.tasks import TASKS
from balanced_agg.rewards import compute_score

every_task = pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)


@every_task
@pytest.mark.parametrize("seed", range(3))
def test_no_validation_problem_is_in_training(task, seed):
    train, validation = task.train_validation_split(seed)
    assert (len(train), len(validation)) == (4096, 128)
    assert not {problem.text for problem in train} & {problem.text for problem in validation}


@every_task
def test_validation_does_not_depend_on_the_size_of_training(task):
    assert task.train_validation_split(0, train_count=10)[1] == task.train_validation_split(0)[1]


@every_task
def test_a_tasks_alphabet_holds_its_problems_and_demonstrations_some_of_which_its_grader_finds_right(task):
    train, _ = task.train_validation_split(1, train_count=200)
    for regime in task.regimes.values():
        rng, scores = random.Random(2), set()
        for problem in train:
            response = task.demonstrate(problem, regime, rng)
            assert set(problem.text + response) <= set(task.alphabet)
            scores.add(compute_score(task.name, response, problem.answer)["score"])
        assert scores == {0.0, 1.0}


@every_task
def test_an_unknown_regime_is_an_error_that_names_the_known_ones(task):
    with pytest.raises(ValueError, match=rf"^{task.name} has no regime other: .*length_gap.*length_spread"):
        task.noise("other")
