"""Grades per second of the maths reward with two grader processes, on real golds that follow a page of prose.

    python scripts/bench_rewards.py FOLDER

The folder holds math500.jsonl, aime2024.jsonl, olympiadbench.jsonl and gsm8k_test.jsonl as the hub has them. "right"
grades each gold against itself, "wrong" against the gold of the next problem, which more often needs sympy.
"""

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from balanced_agg.commands.terminal import print_table
from balanced_agg.rewards import compute_score

GRADES = 2_000
THREADS = 8  # more than processes, as in verl's reward loop
PROSE = 20 * "We write the condition as $a_n = 2 a_{n-1} + 3$ and find that 17 cases remain, of which 4 vanish. "
GOLDS = {
    "math_500": ("math500.jsonl", lambda row: row["answer"]),
    "aime_2024": ("aime2024.jsonl", lambda row: str(row["answer"])),
    "olympiadbench": ("olympiadbench.jsonl", lambda row: row["final_answer"][0].strip("$")),
    "gsm8k": ("gsm8k_test.jsonl", lambda row: row["answer"].rpartition("####")[2].strip()),
}


def grades_per_second(data_source: str, pairs: list[tuple[str, str]]) -> tuple[float, float, float]:
    """(grades per second, mean score, share of failed graders) over GRADES grades of (gold, answer) pairs."""

    def grade(index: int) -> dict[str, float]:
        gold, answer = pairs[index % len(pairs)]
        return compute_score(data_source, f"{PROSE}\nThe final answer is $\\boxed{{{answer}}}$.", gold)

    grade(0)  # starts the processes
    with ThreadPoolExecutor(THREADS) as threads:
        start = time.perf_counter()
        results = list(threads.map(grade, range(GRADES)))
        seconds = time.perf_counter() - start
    score, failed = (sum(result[key] for result in results) / GRADES for key in ("score", "grader_failed"))
    return GRADES / seconds, score, failed


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    folder = Path(sys.argv[1])
    rows = []
    for data_source, (file, gold_of) in GOLDS.items():
        with (folder / file).open(encoding="utf-8") as lines:
            golds = [gold_of(json.loads(line)) for line in lines]
        for kind, answers in (("right", golds), ("wrong", golds[1:] + golds[:1])):
            speed, score, failed = grades_per_second(data_source, list(zip(golds, answers, strict=True)))
            rows.append((data_source, kind, f"{speed:.0f}", f"{score:.3f}", f"{failed:.4f}"))
    header = ("golds", "answers", "grades/s", "mean score", "failed")
    print_table(header, rows, title=f"2 processes, {GRADES} grades each", text_columns=2)


if __name__ == "__main__":
    main()
