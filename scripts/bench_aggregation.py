#!/usr/bin/env python3
"""What Balanced Aggregation costs beside verl's own aggregation of the policy loss.

    loss      forward and backward of one call, as verl's worker makes it for a micro-batch: verl's real
              agg_loss against aggregate, in turn, round by round. A second token-mean shows the noise.
    memory    most bytes of tensors alive at once during that call beyond its inputs, the gradient included.
    driver    what verl's driver computes once a step, on the CPU and of a whole batch: the length divisors of
              "balanced", and the diagnostics of all rules.

Where a figure has a target, the target stands behind it. The exit status is 0 either way: timings are for reading.
"""

import argparse
import math
import statistics
import time
import uuid
import weakref
from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from verl.trainer.ppo.core_algos import agg_loss

from balanced_agg.commands.terminal import print_table
from balanced_agg.loss.aggregation import aggregate, length_divisors, response_lengths
from balanced_agg.loss.diagnostics import aggregation_metrics, response_advantages

# Name -> rows, tokens, and rounds for each one that is asked for: a GPU micro-batch takes a thousandth of the time.
LOSS_SHAPES = {"whole batch": (8192, 2048, 1), "GPU micro-batch": (8, 8192, 20)}
GROUP_SIZE = 8
BASELINE = "token-mean"

TARGET_LOSS_RATIO = 1.02
TARGET_MEMORY_RATIO = 1.01
TARGET_DIVISOR_MS = 20
TARGET_DIAGNOSTICS_MS = 50
# Exponent of the time in the number of rows: 1 is linear, 2 quadratic. Scattered ids that no longer fit the cache
# cost a little more than linear.
TARGET_GROWTH = 1.25

Run = Callable[[], None]


def random_mask(rows: int, tokens: int) -> Tensor:
    """(rows, tokens) bool: responses of uniformly random lengths, at least one token."""
    return torch.arange(tokens) < torch.randint(1, tokens + 1, (rows, 1))


def make_contestants(rows: int, tokens: int, device: str) -> dict[str, Run]:
    """Forward and backward of each aggregation on the same losses, with the arguments verl's worker gives."""
    mask = random_mask(rows, tokens).to(device)
    losses = torch.randn(rows, tokens, device=device).requires_grad_()
    divisor = mask.sum(dim=-1).float()
    num_tokens = int(mask.sum())  # the worker's counts of a mini-batch arrive as plain numbers

    def run(forward: Callable[[], Tensor]) -> Run:
        def forward_backward() -> None:
            forward().backward()
            losses.grad = None

        return forward_backward

    return {
        BASELINE: run(lambda: agg_loss(losses, mask, "token-mean", 1, num_tokens, rows)),
        "token-mean again": run(lambda: agg_loss(losses, mask, "token-mean", 1, num_tokens, rows)),
        "seq-mean-token-mean": run(lambda: agg_loss(losses, mask, "seq-mean-token-mean", 1, num_tokens, rows)),
        "balanced": run(lambda: aggregate(losses, mask, divisor, rows)),
    }


def milliseconds(run: Run, device: str = "cpu") -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    run()
    if device == "cuda":
        torch.cuda.synchronize()
    return 1000 * (time.perf_counter() - start)


def peak_bytes(run: Run, device: str) -> int:
    """Most bytes of tensors alive at once during the run, beyond those alive before it."""
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    with _TensorBytes() as counted:
        run()
    return counted.peak


class _TensorBytes(TorchDispatchMode):
    """Counts the bytes of tensors that operations allocate, and of those the most alive at once."""

    def __init__(self) -> None:
        super().__init__()
        self.alive = self.peak = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        given = {id(storage) for storage in _storages((args, kwargs))}
        for storage in _storages(result):
            # A view or an in-place result lives in memory that was there before.
            if id(storage) not in given:
                self.alive += storage.nbytes()
                weakref.finalize(storage, self._free, storage.nbytes())
        self.peak = max(self.peak, self.alive)
        return result

    def _free(self, num_bytes: int) -> None:
        self.alive -= num_bytes


def _storages(tree) -> list[torch.UntypedStorage]:
    return [leaf.untyped_storage() for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def loss_rows(device: str, rounds: int) -> list[tuple[str, ...]]:
    """Time and peak memory of every contestant at every shape, the contestants taking turns."""
    table = []
    for name, (rows, tokens, factor) in LOSS_SHAPES.items():
        contestants = make_contestants(rows, tokens, device)
        for run in contestants.values():
            run()
        turns = [{c: milliseconds(run, device) for c, run in contestants.items()} for _ in range(factor * rounds)]
        memory = {contestant: peak_bytes(run, device) for contestant, run in contestants.items()}
        for contestant in contestants:
            # Within a turn, so that what loads the machine for a while weighs on both alike.
            time_ratio = statistics.median(turn[contestant] / turn[BASELINE] for turn in turns)
            memory_ratio = memory[contestant] / memory[BASELINE]
            ours = contestant == "balanced"
            table.append(
                (
                    f"{name} {rows} x {tokens}",
                    contestant,
                    f"{statistics.median(turn[contestant] for turn in turns):.3f}",
                    f"{min(turn[contestant] for turn in turns):.3f}",
                    f"{time_ratio:.3f}",
                    verdict(time_ratio, TARGET_LOSS_RATIO) if ours else "",
                    f"{memory[contestant] / 2**20:.3f}",
                    f"{memory_ratio:.3f}",
                    verdict(memory_ratio, TARGET_MEMORY_RATIO) if ours else "",
                )
            )
    return table


def divisors(group_ids: list[str], advantages: Tensor, mask: Tensor) -> None:
    length_divisors("balanced", group_ids, advantages, mask)


def diagnostics(group_ids: list[str], advantages: Tensor, mask: Tensor) -> None:
    lengths = response_lengths(mask)
    aggregation_metrics(group_ids, lengths, response_advantages(advantages, mask, lengths), mask.shape[1])


def on_driver(
    function: Callable[[list[str], Tensor, Tensor], None], rows: int, tokens: int, rounds: int
) -> tuple[float, float]:
    """(median, fastest) milliseconds over a whole batch as it stands in the driver: padded, the mask as int64."""
    mask = random_mask(rows, tokens).long()
    advantages = torch.randn(rows, 1) * mask
    uids = [str(uuid.uuid4()) for _ in range(rows // GROUP_SIZE)]
    group_ids = [uids[row // GROUP_SIZE] for row in torch.randperm(rows).tolist()]
    function(group_ids, advantages, mask)
    times = [milliseconds(lambda: function(group_ids, advantages, mask)) for _ in range(rounds)]
    return statistics.median(times), min(times)


def verdict(value: float, target: float) -> str:
    return f"<= {target:g} {'ok' if value <= target else 'MISSED'}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="default: cpu")
    parser.add_argument("--rounds", type=int, default=15, help="turns of each contestant (default: 15)")
    args = parser.parse_args()
    torch.manual_seed(0)

    print(f"torch {torch.__version__}, {args.device}, {torch.get_num_threads()} threads")
    header = ["rows x tokens", "aggregation", "median ms", "fastest", "ratio", "", "peak MiB", "ratio", ""]
    title = "\npolicy loss, forward + backward, float32 (ratios: to token-mean)"
    print_table(header, loss_rows(args.device, args.rounds), title, text_columns=2)

    table, fastest = [], {}
    for what, function, rows, tokens, target in (
        ('length_divisors("balanced")', divisors, 8192, 2048, TARGET_DIVISOR_MS),
        ('length_divisors("balanced")', divisors, 8192, 16, None),
        ('length_divisors("balanced")', divisors, 1_000_000, 16, None),
        ("diagnostics of all rules", diagnostics, 8192, 2048, TARGET_DIAGNOSTICS_MS),
        ("diagnostics of all rules", diagnostics, 8192, 16, TARGET_DIAGNOSTICS_MS),
    ):
        median, fastest[function, rows] = on_driver(function, rows, tokens, args.rounds)
        figures = (f"{median:.2f}", f"{fastest[function, rows]:.2f}", verdict(median, target) if target else "")
        table.append((what, f"{rows} x {tokens}", *figures))
    header = ["once a step, on the CPU", "rows x tokens", "median ms", "fastest", ""]
    print_table(header, table, "\nwhat the driver computes", text_columns=2)
    growth = math.log(fastest[divisors, 1_000_000] / fastest[divisors, 8192]) / math.log(1_000_000 / 8192)
    print(f"the time of length_divisors grows with rows ** {growth:.2f}, {verdict(growth, TARGET_GROWTH)}")


if __name__ == "__main__":
    main()
