"""On a GPU the mathematics is what it is on the CPU, and keeps no kernel waiting."""

import pytest
import torch
from torch import Tensor

from balanced_agg.loss.aggregation import aggregate, length_divisors
from tests.batches import MODES

pytestmark = pytest.mark.gpu
every_mode = pytest.mark.parametrize("mode", MODES)
ROWS, TOKENS, GROUP_SIZE = 512, 4096, 16


@pytest.fixture(scope="module")
def batch() -> tuple[list[int], Tensor, Tensor, Tensor]:
    """Group ids, advantages, mask and token losses: scattered groups, lengths over three decades, some rows empty."""
    generator = torch.Generator().manual_seed(0)
    lengths = (TOKENS ** torch.rand(ROWS, 1, generator=generator)).long() * (torch.arange(ROWS)[:, None] % 11 > 0)
    mask = (torch.arange(TOKENS) < lengths).long()
    advantages = torch.randn(ROWS, 1, generator=generator).expand(ROWS, TOKENS)
    group_ids = (torch.randperm(ROWS, generator=generator) // GROUP_SIZE).tolist()
    return group_ids, advantages, mask, torch.randn(ROWS, TOKENS, generator=generator, dtype=torch.float64)


@every_mode
def test_divisors_are_those_of_the_cpu(mode: str, batch: tuple):
    group_ids, advantages, mask, _ = batch
    on_gpu = length_divisors(mode, group_ids, advantages.cuda(), mask.cuda(), response_budget=TOKENS)
    on_cpu = length_divisors(mode, group_ids, advantages, mask, response_budget=TOKENS)
    assert on_gpu.is_cuda
    # Means of whole numbers are exact; powers and exponentials differ in the last bit of float64.
    exact = mode in ("balanced", "group-token-mean", "token-mean", "seq-mean-token-mean")
    torch.testing.assert_close(on_gpu.cpu(), on_cpu, rtol=0 if exact else 2e-7, atol=0)


@every_mode
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-6), (torch.bfloat16, 2**-8)])
def test_loss_and_gradient_are_those_of_float64(mode: str, dtype: torch.dtype, bound: float, batch: tuple):
    group_ids, advantages, mask, losses = batch
    divisors = length_divisors(mode, group_ids, advantages, mask, response_budget=TOKENS)
    # What the GPU is given, so that only its own arithmetic is compared.
    exact = losses.to(dtype).double().requires_grad_()
    expected = aggregate(exact, mask, divisors.double(), ROWS)
    expected.backward()
    on_gpu = losses.to(dtype).cuda().requires_grad_()
    loss = aggregate(on_gpu, mask.cuda(), divisors.cuda(), ROWS)
    loss.backward()
    # Losses of both signs cancel in the sum; their absolute values are what rounding errors are a share of.
    scale = aggregate(exact.detach().abs(), mask, divisors.double(), ROWS)
    assert (loss.double().cpu() - expected).abs() < bound * scale
    assert (on_gpu.grad.double().cpu() - exact.grad).norm() < bound * exact.grad.norm()


def test_the_loss_never_waits_for_the_gpu(batch: tuple):
    group_ids, advantages, mask, losses = batch
    divisors = length_divisors("balanced", group_ids, advantages, mask).cuda()
    mask, losses = mask.cuda(), losses.float().cuda().requires_grad_()
    try:
        torch.cuda.set_sync_debug_mode("error")
        aggregate(losses, mask, divisors, ROWS).backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
