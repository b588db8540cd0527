"""The gradient under our modes on 1 to 4 data-parallel ranks, sharded by FSDP2 over gloo: of one batch that is dealt to
them, and of random ones (the code of tests/tools/fuzz_gradients.py), split at random over micro-batches and ranks.
"""

import pytest
import torch

from tests.minibatch import OUR_MODES, make_minibatch, reference_gradient, relative_error
from tests.plugin.loss.fsdp_gradient import run_rank
from tests.tools.fuzz import BOUND, deviations

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("ranks", [1, 2, 4])
@pytest.mark.parametrize("mode", OUR_MODES)
def test_gradient_does_not_depend_on_the_number_of_ranks(mode, ranks, tmp_path, processes_with_verl):
    micro_batch_size = {1: 5, 2: 4, 4: 2}[ranks]
    group = [
        processes_with_verl.Process(target=run_rank, args=(rank, ranks, tmp_path, mode, micro_batch_size))
        for rank in range(ranks)
    ]
    for process in group:
        process.start()
    for process in group:
        process.join(timeout=120)
    assert [process.exitcode for process in group] == [0] * ranks

    expected = reference_gradient(make_minibatch(seed=12, groups=4, group_size=6), mode)
    assert relative_error(torch.load(tmp_path / "gradient.pt"), expected) < 1e-6


@pytest.mark.parametrize(
    "seeds",
    [range(60), pytest.param(range(60, 2000), marks=pytest.mark.evidence)],
    ids=len,
)
def test_the_gradient_of_random_batches_is_that_of_the_reference(seeds, processes_with_verl):
    found = deviations(seeds, processes_with_verl)
    assert len(found) == len(seeds)
    worst = max(found, key=lambda deviation: deviation.relative)
    assert worst.relative < BOUND, worst


def test_counts_of_micro_batches_would_be_found(processes_with_verl):
    found = deviations(range(20), processes_with_verl, local_counts=True)
    assert sum(deviation.relative > 0.01 for deviation in found) > len(found) / 2
