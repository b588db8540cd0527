"""One gloo rank of tests/plugin/loss/test_fsdp.py: verl's ppo_loss on this rank's rows, gradients averaged by FSDP2."""

from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from tests.minibatch import initial_logits, make_actor_config, make_minibatch, micro_batch_losses


class LogitTable(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.logits = nn.Parameter(initial_logits())

    def forward(self) -> torch.Tensor:
        # A copy, so that a gradient reaches FSDP through a module output.
        return self.logits * 1.0


def run_rank(rank: int, ranks: int, folder: Path, mode: str, micro_batch_size: int) -> None:
    """Join ``ranks`` processes that meet in ``folder``; rank 0 leaves the whole gradient there."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=ranks)
    batch = make_minibatch(seed=12, groups=4, group_size=6).with_divisors(mode)
    tokens = int(batch.data["loss_mask"].values().sum())
    mine = batch.rows(range(rank, len(batch), ranks))  # every group is spread over all ranks

    model = LogitTable()
    fully_shard(model, mesh=init_device_mesh("cpu", (ranks,)))
    for start in range(0, len(mine), micro_batch_size):
        part = mine.rows(range(start, min(start + micro_batch_size, len(mine))))
        losses = micro_batch_losses(
            model(), part, make_actor_config(mode), responses=len(batch), tokens=tokens, dp_size=ranks
        )
        next(losses)[0].backward()
    gradient = model.logits.grad.full_tensor()
    if rank == 0:
        torch.save(gradient, folder / "gradient.pt")
    dist.destroy_process_group()
