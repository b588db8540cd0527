"""Random batches through verl's ``ppo_loss`` on 1 to 4 FSDP2 ranks over gloo, against the float64 reference.

A batch is its seed: each rank draws the whole of it again and takes its share of the rows.
"""

import logging
import math
import random
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from multiprocessing.context import BaseContext
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import ProcessGroup
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from verl.plugin.platform import set_platform
from verl.workers.utils.losses import ppo_loss

from balanced_agg.plugin.cpu.in_verl import PlatformCPU
from tests.minibatch import (
    OUR_MODES,
    MiniBatch,
    assemble,
    draw_response,
    make_actor_config,
    micro_batches,
    model_output,
    padding_row,
    reference_gradient,
)
from tests.plugin.loss.fsdp_gradient import LogitTable

RANKS = (1, 2, 3, 4)
BOUND = 1e-6  # of a relative deviation, in fp32


@dataclass(frozen=True)
class Case:
    """A batch and how it is aggregated and split."""

    batch: MiniBatch  # shuffled, with padding to a multiple of ranks * micro_batch_size rows
    mode: str
    ranks: int
    micro_batch_size: int
    token_budget: int | None  # splits in place of micro_batch_size


def draw_case(seed: int) -> Case:
    """1 to 8 groups of 1 to 12 responses of 1 to 200 tokens, one token counting at least, or none at all."""
    choose = random.Random(seed)
    generator = torch.Generator().manual_seed(seed)
    longest = choose.choice((1, 4, 16, 64, 200))
    kept = choose.choice((0.1, 0.5, 0.9, 1.0))
    all_masked = choose.choice((0.0, 0.0, 0.1, 0.5))  # share of responses
    noise = choose.choice((0.0, 0.05, 0.3, 1.0))  # from on-policy, no token clipped, to nearly every second clipped

    responses, group_ids = [], []
    for group in range(choose.randint(1, 8)):
        draw_advantages = choose.choice(ADVANTAGES)
        for advantage in draw_advantages(choose, choose.randint(1, 12)):
            length = round(longest ** choose.random())
            kept_here = 0.0 if choose.random() < all_masked else kept
            responses.append(draw_response(generator, length, advantage, kept_here, noise))
            group_ids.append(f"group{group}")

    ranks = choose.choice(RANKS)
    micro_batch_size = choose.randint(1, math.ceil(len(responses) / ranks))
    padding = -len(responses) % (ranks * micro_batch_size)
    responses += [padding_row()] * padding
    group_ids += [f"pad{i}" for i in range(padding)]
    sizes = [len(response["input_ids"]) for response in responses]
    token_budget = choose.choice((None, choose.randint(max(sizes), sum(sizes))))
    order = choose.sample(range(len(responses)), len(responses))
    batch = assemble([responses[i] for i in order], [group_ids[i] for i in order])
    return Case(batch, choose.choice(OUR_MODES), ranks, micro_batch_size, token_budget)


# ---- the advantages of one group


def binary_rewards(choose: random.Random, size: int) -> list[float]:
    """GRPO's: normalised over the group, so that they sum to 0."""
    rewards = torch.tensor([float(choose.random() < 0.5) for _ in range(size)], dtype=torch.float64)
    return ((rewards - rewards.mean()) / (rewards.std(correction=0) + 1e-6)).tolist()


def magnitudes(choose: random.Random, size: int) -> list[float]:
    """Positive, over four decades."""
    return [10 ** choose.uniform(-2, 2) for _ in range(size)]


def with_signs(signs: Sequence[int]) -> Callable[[random.Random, int], list[float]]:
    return lambda choose, size: [choose.choice(signs) * magnitude for magnitude in magnitudes(choose, size)]


ADVANTAGES = [binary_rewards, *map(with_signs, [(1,), (-1,), (0,), (1, -1), (1, 0, -1)])]


# ---- the gradient


@dataclass(frozen=True)
class Deviation:
    """Of the gradient of one batch, as the processes computed it, from the reference."""

    seed: int
    mode: str
    ranks: int
    difference: float  # its norm
    reference: float  # its norm

    @property
    def relative(self) -> float:
        """Difference over reference, without regard to what cancels in the reference.

        Infinite for a NaN, and for any difference from a reference of exactly 0: no token with an advantage, or all
        clipped.
        """
        if self.difference == 0:
            return 0.0
        relative = self.difference / self.reference if self.reference else math.inf
        return math.inf if math.isnan(relative) else relative


def deviations(seeds: Sequence[int], context: BaseContext, local_counts: bool = False) -> list[Deviation]:
    """Of every seed's batch, on 4 of the context's processes, of which a batch uses as many as it has ranks.

    ``local_counts`` puts in the bug that this is there to find: divisors from the counts of each micro-batch.
    """
    with tempfile.TemporaryDirectory() as folder, context.Pool(max(RANKS)) as processes:
        run = partial(run_rank, folder=Path(folder), seeds=seeds, local_counts=local_counts)
        # Unordered: the first rank to fail says why, and ends the others, which would wait for it.
        parts = processes.imap_unordered(run, range(max(RANKS)))
        return [deviation for part in parts for deviation in part]


def run_rank(rank: int, folder: Path, seeds: Sequence[int], local_counts: bool) -> list[Deviation]:
    """One of 4 processes that meet in ``folder``; a batch is compared by the last of its ranks."""
    logging.disable(logging.WARNING)  # verl's, that the platform changes: it has to, and here
    set_platform(PlatformCPU())
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/rendezvous",
        rank=rank,
        world_size=max(RANKS),
        timeout=timedelta(minutes=5),
    )
    # All processes make all meshes, also those that they are no part of.
    meshes = {ranks: DeviceMesh("cpu", list(range(ranks))) for ranks in RANKS}
    models = {ranks: fully_shard(LogitTable(), mesh=mesh) for ranks, mesh in meshes.items() if rank < ranks}
    found = []
    for seed in seeds:
        case = draw_case(seed)
        if rank < case.ranks:
            actual = gradient(case, rank, models[case.ranks], meshes[case.ranks].get_group(), local_counts)
        if rank == case.ranks - 1:
            expected = reference_gradient(case.batch, case.mode)
            difference = float((actual.double() - expected).norm())
            found.append(Deviation(seed, case.mode, case.ranks, difference, float(expected.norm())))
    dist.destroy_process_group()
    return found


def gradient(case: Case, rank: int, model: LogitTable, dp_group: ProcessGroup, local_counts: bool) -> Tensor:
    """Of the whole mini-batch. Each rank has equally many rows and micro-batches; gradients meet at the last one."""
    batch = (
        case.batch.with_divisors_of_each_micro_batch(case.mode, case.micro_batch_size)
        if local_counts
        else case.batch.with_divisors(case.mode)
    )
    share = len(batch) // case.ranks
    parts = micro_batches(
        batch.rows(range(rank * share, (rank + 1) * share)),
        micro_batch_size=case.micro_batch_size,
        token_budget=case.token_budget,
        responses=len(batch),
        tokens=batch.tokens(),
        dp_size=case.ranks,
        dp_group=dp_group,
    )
    config = make_actor_config(case.mode)
    model.zero_grad()
    for number, part in enumerate(parts, 1):
        model.set_requires_gradient_sync(number == len(parts))
        loss, _ = ppo_loss(config, model_output(model(), part), part)
        loss.backward()
    return model.logits.grad.full_tensor()
