#!/usr/bin/env python3
"""What Balanced Aggregation costs beside verl's own aggregations: the table of docs/cost.md.

First forward and backward of one call, with the arguments that verl's worker gives for a micro-batch. Its peak memory
is the most that is allocated at once beyond the inputs, the gradient included. Then what verl's driver computes once a
step, on the CPU and of a full batch.
"""

import argparse
import uuid
from collections.abc import Callable
from itertools import accumulate

import torch
from torch import Tensor
from torch.profiler import profile
from torch.utils.benchmark import Timer
from verl.trainer.ppo.core_algos import agg_loss

from balanced_agg.commands.terminal import print_table
from balanced_agg.loss.aggregation import aggregate, length_divisors
from balanced_agg.loss.diagnostics import aggregation_metrics
from balanced_agg.loss.responses import Rows
from balanced_agg.loss.rules import RULES

GROUP_SIZE = 8
SECONDS = 3  # for each median


def random_mask(rows: int, tokens: int) -> Tensor:
    """(rows, tokens) bool: responses of uniformly random lengths, at least one token."""
    return torch.arange(tokens) < torch.randint(1, tokens + 1, (rows, 1))


def milliseconds(run: Callable[[], object]) -> str:
    timer = Timer("run()", globals={"run": run}, num_threads=torch.get_num_threads())  # it waits for a GPU
    return f"{1000 * timer.blocked_autorange(min_run_time=SECONDS).median:.3f}"


def peak_mebibytes(run: Callable[[], object], device: str) -> str:
    if device == "cuda":
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        run()
        return f"{(torch.cuda.max_memory_allocated() - before) / 2**20:.3f}"
    with profile(profile_memory=True) as recorded:
        run()
    events = [event for event in recorded.profiler.kineto_results.events() if event.name() == "[memory]"]
    events.sort(key=lambda event: event.start_ns())
    return f"{max(accumulate(event.nbytes() for event in events)) / 2**20:.3f}"


def loss_rows(rows: int, tokens: int, device: str) -> list[tuple[str, ...]]:
    mask = random_mask(rows, tokens).to(device)
    losses = torch.randn(rows, tokens, device=device).requires_grad_()
    divisor = mask.sum(dim=-1).float()
    num_tokens = int(mask.sum())  # the worker's counts of a mini-batch arrive as plain numbers
    aggregations = {
        "token-mean": lambda: agg_loss(losses, mask, "token-mean", 1, num_tokens, rows),
        "seq-mean-token-mean": lambda: agg_loss(losses, mask, "seq-mean-token-mean", 1, num_tokens, rows),
        "balanced": lambda: aggregate(losses, mask, divisor, rows),
    }
    table = []
    for name, forward in aggregations.items():

        def forward_backward(forward: Callable[[], Tensor] = forward) -> None:
            forward().backward()
            losses.grad = None

        time, memory = milliseconds(forward_backward), peak_mebibytes(forward_backward, device)
        table.append((f"{rows} x {tokens}", name, time, memory))
    return table


def driver_rows(rows: int, tokens: int) -> list[tuple[str, ...]]:
    """A batch as it stands in the driver: padded, the mask as int64, the members of a group scattered."""
    mask = random_mask(rows, tokens).long()
    advantages = torch.randn(rows, 1) * mask
    uids = [str(uuid.uuid4()) for _ in range(rows // GROUP_SIZE)]
    group_ids = [uids[row // GROUP_SIZE] for row in torch.randperm(rows).tolist()]

    sessions = [str(uuid.uuid4()) for _ in range(rows)]

    def diagnostics() -> None:
        aggregation_metrics(Rows.measured(group_ids, sessions, advantages, mask).responses(tokens))

    size = f"{rows} x {tokens}"
    divisors = milliseconds(lambda: length_divisors("balanced", group_ids, advantages, mask, sessions))
    return [
        (size, "length_divisors", divisors),
        (size, f"diagnostics of all {len(RULES)} rules", milliseconds(diagnostics)),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="of the losses (default: cpu)")
    device = parser.parse_args().device
    torch.manual_seed(0)
    name = torch.cuda.get_device_name() if device == "cuda" else f"{torch.get_num_threads()} threads"
    print(f"torch {torch.__version__}, {device}, {name}, float32")
    table = [row for size in ((8, 8192), (64, 8192), (8192, 2048)) for row in loss_rows(*size, device)]
    header = ("rows x tokens", "forward + backward", "median ms", "peak MiB")
    print_table(header, table, text_columns=2)
    table = [row for size in ((8192, 2048), (8192, 16), (1_000_000, 16)) for row in driver_rows(*size)]
    print_table(("rows x tokens", "in the driver", "median ms"), table, text_columns=2)


if __name__ == "__main__":
    main()
