"""Mistakes of tests/tools/misuse.py as a user makes them: one message with the key, before Ray starts, nothing left.

Nine are made in the slow tier, all of them with --all; tests/plugin/checks/test_checks.py puts them to the checks.
"""

import pytest

from tests.end_to_end.attempts import attempt
from tests.tools.misuse import CASES, good_inputs

pytestmark = pytest.mark.slow

# One of each kind of message, and of each command.
CHOSEN = (
    "groups of one response",
    "a key that does not exist",
    "micro-batches of no size",
    "truncated weights",
    "an unknown platform",
    "the CPU's recipe on the GPU platform",
    "a cluster that left its address",
    "evaluating what is no model",
    "a run folder in use",
)


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    folder = tmp_path_factory.mktemp("good")
    good_inputs(folder)
    return folder


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, marks=() if case.name in CHOSEN else pytest.mark.evidence) for case in CASES],
    ids=lambda case: case.name,
)
def test_a_mistake_ends_in_one_message_with_the_key_before_ray_starts(case, good, tmp_path):
    made = attempt(case, good, tmp_path)
    assert made.wrong == "", made.log
    assert made.leftover == []


def test_the_chosen_mistakes_are_in_the_table():
    assert set(CHOSEN) <= {case.name for case in CASES}
