"""Random batches through the real loss path on 1 to 4 processes; how far gradients are from the float64 reference.

    .venv/bin/python -m tests.tools.fuzz_gradients
    .venv/bin/python -m tests.tools.fuzz_gradients --batches 1 --seed 1234    # one batch again

A deviation is the norm of the difference over the norm of the reference gradient, whatever cancels in it; where the
reference is exactly 0, so must the gradient be. No batch is left out, but no ratio of probabilities is drawn within
1e-5 of an edge of clipping, where the gradient jumps. It ends with an error if a deviation is beyond 1e-6.
"""

import argparse
import multiprocessing
import time
from itertools import product

from balanced_agg.commands.terminal import messages, print_table
from tests.minibatch import OUR_MODES
from tests.tools.fuzz import BOUND, RANKS, Deviation, deviations

CHUNK = 250  # batches between two messages


def row(mode: str, ranks: str, found: list[Deviation]) -> list[str]:
    worst = max(found, key=lambda deviation: deviation.relative)
    zeros = sum(deviation.reference == 0 for deviation in found)
    return [mode, ranks, str(len(found)), str(zeros), f"{worst.relative:.2e}", str(worst.seed)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batches", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0, help="of the first batch; each further one has the next")
    options = parser.parse_args()

    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.tools.fuzz"])  # importing verl takes each process 10 s
    start = time.perf_counter()
    seeds = range(options.seed, options.seed + options.batches)
    found: list[Deviation] = []
    for first in range(0, len(seeds), CHUNK):
        found += deviations(seeds[first : first + CHUNK], context)
        messages.print(f"{len(found)} of {len(seeds)} batches, {time.perf_counter() - start:.0f} s")

    cells = {
        cell: [deviation for deviation in found if (deviation.mode, deviation.ranks) == cell]
        for cell in product(OUR_MODES, RANKS)
    }
    rows = [row(mode, str(ranks), cell) for (mode, ranks), cell in cells.items() if cell]
    header = ["mode", "ranks", "batches", "zero gradients", "largest relative deviation", "its seed"]
    print_table(header, [*rows, row("all", "", found)])

    beyond = [deviation for deviation in found if deviation.relative > BOUND]
    if beyond:
        raise SystemExit(f"{len(beyond)} of {len(found)} gradients deviate by more than {BOUND}")


if __name__ == "__main__":
    main()
