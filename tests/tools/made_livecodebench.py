"""Write a file as LiveCodeBench's is: as many problems, with as many bytes of tests, packed in the same way.

    .venv/bin/python -m tests.tools.made_livecodebench rows.parquet --problems 1055 --bytes 5e9    # some minutes
    balanced-agg prepare livecodebench --source rows.parquet --expect 1055 --out FOLDER

The sizes of test suites are lognormal, a few of them thirty times the mean. The task of every problem is to give back
the first of some numbers (`PROGRAM`, `FUNCTION`), so that programs can be graded, too. One seed, one file.
"""

import argparse
import base64
import json
import pickle
import random
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

PROGRAM = "```python\nprint(input().split()[0])\n```"
FUNCTION = "```python\ndef first(xs):\n    return xs[0]\n```"
POOL = 2**22  # numbers, of which the tests are slices
WIDTH = 10  # characters of a number and what follows it
TESTS = 24  # a problem
ROW_GROUP_BYTES = 2**26


def problem(number: int, tests: list[dict[str, str]], functional: bool) -> dict[str, str]:
    """A row of the source, the first two tests public."""
    packed = base64.b64encode(zlib.compress(pickle.dumps(json.dumps(tests[2:])), 1)).decode()
    return {
        "question_content": f"Give back the first number. ({number})",
        "question_id": f"made_{number}",
        "starter_code": "def first(xs):" if functional else "",
        "public_test_cases": json.dumps(tests[:2]),
        "private_test_cases": packed,
        "metadata": json.dumps({"func_name": "first"} if functional else {}),
    }


def tests_of(size: int, functional: bool, pool: str, draw: random.Random) -> list[dict[str, str]]:
    """Tests whose inputs are `size` characters together, at least one number each."""
    made = []
    for _ in range(TESTS):
        numbers = max(1, size // TESTS // WIDTH)
        start = draw.randrange(POOL - numbers) * WIDTH
        text = pool[start : start + numbers * WIDTH - 1]
        given = f"[{text.replace(' ', ',')}]" if functional else text
        made.append({"input": given, "output": text[: WIDTH - 1], "testtype": "functional" if functional else "stdin"})
    return made


def write(path: Path, problems: int, size: float, seed: int) -> None:
    draw, numbers = random.Random(seed), np.random.default_rng(seed)
    pool = " ".join(map(str, numbers.integers(10 ** (WIDTH - 2), 10 ** (WIDTH - 1), POOL)))
    sizes = numbers.lognormal(0, 1.5, problems)
    sizes = np.minimum(sizes / sizes.sum() * size, TESTS * (POOL // 2) * WIDTH).astype(int)
    writer, group = None, []
    for number, share in enumerate(sizes.tolist()):
        functional = number % 3 == 2
        group.append(problem(number, tests_of(share, functional, pool, draw), functional))
        if sum(len(row["private_test_cases"]) for row in group) > ROW_GROUP_BYTES or number == problems - 1:
            table = pa.Table.from_pylist(group)
            writer = writer or pq.ParquetWriter(path, table.schema)
            writer.write_table(table)
            group = []
    writer.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("path", type=Path)
    parser.add_argument("--problems", type=int, default=1055)
    parser.add_argument("--bytes", type=float, default=5e9, help="of all tests, unpacked")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    write(options.path, options.problems, options.bytes, options.seed)


if __name__ == "__main__":
    main()
