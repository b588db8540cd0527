#!/usr/bin/env python3
"""What Balanced Aggregation costs beside verl's own aggregation of the policy loss.

    loss      forward and backward of one call, as verl's worker makes it for a micro-batch: verl's real
              agg_loss against aggregate, in turn, round by round. A second token-mean shows the noise.
    memory    most bytes of tensors alive at once during that call beyond its inputs, the gradient included.
    driver    what verl's driver computes once a step, on the CPU and of a whole batch: the length divisors of
              "balanced", and the diagnostics of all rules.

The exit status is 0 whatever the figures: timings are for reading.
"""

import argparse
import json
import math
import statistics
import time
import uuid
import weakref
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from verl.trainer.ppo.core_algos import agg_loss

from balanced_agg.commands.terminal import print_table
from balanced_agg.loss.aggregation import aggregate, length_divisors, response_lengths
from balanced_agg.loss.diagnostics import aggregation_metrics, response_advantages

LOSS_SHAPES = {"whole batch": (8192, 2048), "GPU micro-batch": (8, 8192)}
DIVISOR_SHAPES = ((8192, 2048), (8192, 16), (1_000_000, 16))
DIAGNOSTICS_SHAPES = ((8192, 2048), (8192, 16))
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
    lengths = torch.randint(1, tokens + 1, (rows, 1))
    return torch.arange(tokens) < lengths


def make_contestants(rows: int, tokens: int, device: str) -> dict[str, Run]:
    """Forward and backward of each aggregation on the same losses, with the arguments verl's worker gives."""
    mask = random_mask(rows, tokens).to(device)
    losses = torch.randn(rows, tokens, device=device).requires_grad_()
    divisor = mask.sum(dim=-1).float()
    # The worker's mini-batch counts arrive as plain numbers.
    num_tokens = int(mask.sum())

    def run(forward: Callable[[], Tensor]) -> Run:
        def forward_backward() -> None:
            forward().backward()
            losses.grad = None

        return forward_backward

    def verls(mode: str) -> Run:
        return run(lambda: agg_loss(losses, mask, mode, 1, num_tokens, rows))

    return {
        BASELINE: verls("token-mean"),
        "token-mean again": verls("token-mean"),
        "seq-mean-token-mean": verls("seq-mean-token-mean"),
        "balanced": run(lambda: aggregate(losses, mask, divisor, rows)),
    }


def seconds(run: Run, device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    run()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


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


def measure_losses(device: str, rounds: dict[str, int]) -> list[dict]:
    """Time and peak memory of every contestant at every shape, the contestants taking turns."""
    rows_of_table = []
    for name, (rows, tokens) in LOSS_SHAPES.items():
        contestants = make_contestants(rows, tokens, device)
        for run in contestants.values():
            run()
        times = {contestant: [] for contestant in contestants}
        for _ in range(rounds[name]):
            for contestant, run in contestants.items():
                times[contestant].append(seconds(run, device))
        memory = {contestant: peak_bytes(run, device) for contestant, run in contestants.items()}
        for contestant in contestants:
            rows_of_table.append(
                {
                    "shape": f"{name} {rows} x {tokens}",
                    "aggregation": contestant,
                    "median_ms": 1e3 * statistics.median(times[contestant]),
                    "fastest_ms": 1e3 * min(times[contestant]),
                    # Within a round, so that what loads the machine for a while weighs on both alike.
                    "time_ratio": statistics.median(
                        mine / base for mine, base in zip(times[contestant], times[BASELINE], strict=True)
                    ),
                    "peak_mib": memory[contestant] / 2**20,
                    "memory_ratio": memory[contestant] / memory[BASELINE],
                }
            )
    return rows_of_table


def divisors(group_ids: list[str], advantages: Tensor, mask: Tensor) -> None:
    length_divisors("balanced", group_ids, advantages, mask)


def diagnostics(group_ids: list[str], advantages: Tensor, mask: Tensor) -> None:
    lengths = response_lengths(mask)
    aggregation_metrics(group_ids, lengths, response_advantages(advantages, mask, lengths), mask.shape[1])


def measure_on_driver(
    function: Callable[[list[str], Tensor, Tensor], None], shapes: tuple[tuple[int, int], ...], rounds: int
) -> list[dict]:
    """Time of a function over whole batches as they stand in the driver: padded, masks as int64."""
    rows_of_table = []
    for rows, tokens in shapes:
        mask = random_mask(rows, tokens).long()
        advantages = torch.randn(rows, 1) * mask
        uids = [str(uuid.uuid4()) for _ in range(rows // GROUP_SIZE)]
        group_ids = [uids[row // GROUP_SIZE] for row in torch.randperm(rows).tolist()]

        def run(group_ids=group_ids, advantages=advantages, mask=mask) -> None:
            function(group_ids, advantages, mask)

        run()
        times = [seconds(run, "cpu") for _ in range(rounds)]
        rows_of_table.append(
            {
                "shape": f"{rows} x {tokens}",
                "rows": rows,
                "median_ms": 1e3 * statistics.median(times),
                "fastest_ms": 1e3 * min(times),
            }
        )
    return rows_of_table


def verdict(value: float, target: float) -> str:
    return f"<= {target:g} {'ok' if value <= target else 'MISSED'}"


def main() -> None:
    as_written = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=as_written)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="default: cpu")
    parser.add_argument("--rounds", type=int, default=15, help="turns of each contestant (default: 15)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to FILE")
    args = parser.parse_args()
    torch.manual_seed(0)

    # A GPU micro-batch takes a thousandth of the time, and so bears more rounds.
    losses = measure_losses(args.device, {"whole batch": args.rounds, "GPU micro-batch": 20 * args.rounds})
    counted = measure_on_driver(divisors, DIVISOR_SHAPES, args.rounds)
    diagnosed = measure_on_driver(diagnostics, DIAGNOSTICS_SHAPES, args.rounds)
    small, large = counted[-2:]
    growth = math.log(large["fastest_ms"] / small["fastest_ms"]) / math.log(large["rows"] / small["rows"])

    print(f"torch {torch.__version__}, {args.device}, {torch.get_num_threads()} threads")
    print_table(
        ["rows x tokens", "aggregation", "median ms", "fastest", "ratio", "", "peak MiB", "ratio", ""],
        [
            [
                line["shape"],
                line["aggregation"],
                f"{line['median_ms']:.3f}",
                f"{line['fastest_ms']:.3f}",
                f"{line['time_ratio']:.3f}",
                verdict(line["time_ratio"], TARGET_LOSS_RATIO) if ours else "",
                f"{line['peak_mib']:.3f}",
                f"{line['memory_ratio']:.3f}",
                verdict(line["memory_ratio"], TARGET_MEMORY_RATIO) if ours else "",
            ]
            for line in losses
            for ours in [line["aggregation"] == "balanced"]
        ],
        title="\npolicy loss, forward + backward, float32 (ratios: to token-mean)",
        text_columns=2,
    )
    print_table(
        ["rows x tokens", "median ms", "fastest", "", "growth", ""],
        [
            [
                line["shape"],
                f"{line['median_ms']:.2f}",
                f"{line['fastest_ms']:.2f}",
                verdict(line["median_ms"], TARGET_DIVISOR_MS) if line is counted[0] else "",
                f"{growth:.2f}" if line is large else "",
                verdict(growth, TARGET_GROWTH) if line is large else "",
            ]
            for line in counted
        ],
        title='\nlength_divisors("balanced") on the CPU, once a step (growth: exponent of the time in the rows)',
    )
    print_table(
        ["rows x tokens", "median ms", "fastest", ""],
        [
            [
                line["shape"],
                f"{line['median_ms']:.2f}",
                f"{line['fastest_ms']:.2f}",
                verdict(line["median_ms"], TARGET_DIAGNOSTICS_MS),
            ]
            for line in diagnosed
        ],
        title="\ndiagnostics of all rules on the CPU, once a step",
    )

    if args.json:
        figures = {"loss": losses, "divisors": counted, "growth": growth, "diagnostics": diagnosed}
        args.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
