"""The gradient under our modes is the same for 1, 2 and 4 data-parallel ranks, sharded by FSDP2 over gloo."""

import multiprocessing

import pytest
import torch

from tests.minibatch import OUR_MODES, make_minibatch, reference_gradient, relative_error
from tests.plugin.loss.fsdp_gradient import IMPORTED_LATE, run_rank


@pytest.fixture(scope="module")
def processes():
    """Processes forked from a server that has imported verl once; importing it in each takes 10 s apiece."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.plugin.loss.fsdp_gradient", *IMPORTED_LATE])
    return context


@pytest.mark.parametrize("ranks", [1, 2, 4])
@pytest.mark.parametrize("mode", OUR_MODES)
def test_gradient_does_not_depend_on_the_number_of_ranks(mode, ranks, tmp_path, processes):
    micro_batch_size = {1: 5, 2: 4, 4: 2}[ranks]
    group = [
        processes.Process(target=run_rank, args=(rank, ranks, tmp_path, mode, micro_batch_size))
        for rank in range(ranks)
    ]
    for process in group:
        process.start()
    for process in group:
        process.join(timeout=120)
    assert [process.exitcode for process in group] == [0] * ranks

    expected = reference_gradient(make_minibatch(seed=12, groups=4, group_size=6), mode)
    assert relative_error(torch.load(tmp_path / "gradient.pt"), expected) < 1e-6
