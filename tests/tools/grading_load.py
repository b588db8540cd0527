"""Grade right, wrong and hostile programs by many threads at once, and count the verdicts that are not true.

    .venv/bin/python -m tests.tools.grading_load                # 1 000 gradings by 4 and by 200 threads; half an hour
    .venv/bin/python -m tests.tools.grading_load --at-once      # N gradings by N threads

Hostile programs are those of tests/rewards/code/hostile/programs.py, all of them in turn; of the others nine in ten are
right, and some need one to three seconds of processor time. It ends in a table, and with an error if a verdict is
wrong. "Not graded" are those for which there was no time before the end of their grade.
"""

import argparse
import json
import random
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import psutil

from balanced_agg.commands.terminal import messages, print_table
from balanced_agg.rewards.code import grade_code
from balanced_agg.rewards.errors import GraderFailed
from balanced_agg.rewards.sandbox import check_sandbox
from tests.rewards.code.hostile.programs import PROGRAMS

SEED = 0
SUM = "print(sum(map(int, open(0).read().split())))"
SORT = "class Solution:\n    def order(self, xs: List[int]) -> List[int]:\n        return sorted(xs)"
NUMPY = "import numpy as np\nprint(np.array(input().split(), dtype=int).sum())"
THREAD = f"import threading\nthread = threading.Thread(target=lambda: {SUM})\nthread.start()"
BUSY = "import time\nwhile time.process_time() < {}: pass\n" + SUM
# Of a hundred programs so many; what they end in; whether they are right.
ORDINARY = [
    (40, SUM, None, True),
    (20, SORT, "order", True),
    (14, NUMPY, None, True),
    (10, THREAD, None, True),
    (3, BUSY.format(1), None, True),
    (2, BUSY.format(2), None, True),
    (1, BUSY.format(3), None, True),
    (5, SUM.replace("sum", "max"), None, False),
    (3, SORT.replace("sorted(xs)", "xs"), "order", False),
    (2, BUSY.format(1) + "+ 1", None, False),
]
TESTS = [([5, 3, 9], 17), ([8, 1], 9)]
NAMED = {"SECRET_FILE": "/etc/passwd", "PORT": "9", "ABSTRACT": "nobody", "PID": "12345", "FOLDER": "/etc"}


@dataclass(frozen=True)
class Grading:
    name: str
    response: str
    ground_truth: str
    verdict: bool


def ordinary(program: str, fn_name: str | None, verdict: bool) -> Grading:
    if fn_name:
        inputs, outputs = [json.dumps(xs) for xs, _ in TESTS], [json.dumps(sorted(xs)) for xs, _ in TESTS]
    else:
        inputs, outputs = [" ".join(map(str, xs)) for xs, _ in TESTS], [str(total) for _, total in TESTS]
    truth = json.dumps({"inputs": inputs, "outputs": outputs, "fn_name": fn_name})
    return Grading(program, f"```python\n{program}\n```", truth, verdict)


def hostile(name: str) -> Grading:
    text = PROGRAMS[name].text
    for key, value in NAMED.items():
        text = text.replace(f"@{key}@", value)
    truth = {"inputs": ["1", "2"], "outputs": ['"no guess"'] * 2, "fn_name": PROGRAMS[name].fn_name}
    return Grading(name, f"```python\n{text}\n```", json.dumps(truth), False)


def mixture(gradings: int, share: float) -> list[Grading]:
    """So many gradings in a random order, of which this share is hostile."""
    draw = random.Random(SEED)
    names = list(PROGRAMS)
    chosen = [hostile(names[number % len(names)]) for number in range(round(gradings * share))]
    weights = [weight for weight, *_ in ORDINARY]
    for _, program, fn_name, verdict in draw.choices(ORDINARY, weights, k=gradings - len(chosen)):
        chosen.append(ordinary(program, fn_name, verdict))
    draw.shuffle(chosen)
    return chosen


class Memory:
    """The most memory that this process and all below it have had at once, in bytes, by a look every half second."""

    def __enter__(self) -> "Memory":
        self.peak, self._over = 0, threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        this = psutil.Process()
        while not self._over.wait(0.5):
            now = 0
            for process in (this, *this.children(recursive=True)):
                try:
                    now += process.memory_info().rss
                except psutil.NoSuchProcess:
                    continue
            self.peak = max(self.peak, now)


def run(gradings: int, threads: int, share: float) -> tuple[list[str], int]:
    """A row of the table, and how many verdicts were wrong."""

    def grade(grading: Grading) -> tuple[str, float]:
        start = time.monotonic()
        try:
            outcome = "true" if grade_code(grading.response, grading.ground_truth) is grading.verdict else "wrong"
        except GraderFailed as failure:
            outcome = "not graded"
            messages.print(f"not graded: {failure}")
        if outcome == "wrong":
            messages.print(f"wrong verdict, it is {grading.verdict}: {grading.name}")
        return outcome, time.monotonic() - start

    start = time.monotonic()
    with Memory() as memory, ThreadPoolExecutor(threads) as pool:
        results = list(pool.map(grade, mixture(gradings, share)))
    seconds = time.monotonic() - start
    outcomes, slowest = Counter(outcome for outcome, _ in results), max(took for _, took in results)
    row = [f"{gradings}", f"{threads}", f"{share:.0%}", f"{outcomes['wrong']}", f"{outcomes['not graded']}"]
    row += [f"{seconds:.0f}", f"{gradings / seconds:.1f}", f"{slowest:.0f}", f"{memory.peak / 2**20:.0f}"]
    messages.print("  ".join(row))
    return row, outcomes["wrong"]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--gradings", type=int, default=1000)
    parser.add_argument("--threads", type=int, nargs="+", default=[4, 200])
    parser.add_argument("--hostile", type=float, nargs="+", default=[0.0, 0.15, 0.5], metavar="SHARE")
    parser.add_argument("--at-once", action="store_true", help="1, 8, 32 and 128 gradings, none, half or all hostile")
    options = parser.parse_args()
    check_sandbox()
    if options.at_once:
        asked = [(number, number, share) for number in (1, 8, 32, 128) for share in (0.0, 0.5, 1.0)]
    else:
        asked = [(options.gradings, threads, share) for threads in options.threads for share in options.hostile]
    rows, wrong = zip(*(run(*what) for what in asked), strict=True)
    header = ["gradings", "threads", "hostile", "wrong", "not graded", "seconds", "a second", "slowest, s", "peak, MiB"]
    print_table(header, rows)
    if sum(wrong):
        raise SystemExit(f"{sum(wrong)} wrong verdicts")


if __name__ == "__main__":
    main()
