"""Random batches, split at random over micro-batches and ranks: the same code as tests/tools/fuzz_gradients.py."""

import pytest

from tests.tools.fuzz import BOUND, deviations


@pytest.mark.parametrize("seeds", [range(60), pytest.param(range(60, 2000), marks=pytest.mark.evidence)], ids=len)
def test_the_gradient_of_random_batches_is_that_of_the_reference(seeds):
    found = deviations(seeds)
    assert len(found) == len(seeds)
    worst = max(found, key=lambda deviation: deviation.relative)
    assert worst.relative < BOUND, worst


def test_counts_of_micro_batches_would_be_found():
    found = deviations(range(20), local_counts=True)
    assert sum(deviation.relative > 0.01 for deviation in found) > len(found) / 2
