#!/usr/bin/env python3
"""Memory and time of `balanced-agg inspect` on generated rollouts: does either grow with what is on disk?

For 100 MB and 1 GB: verl's dump (a JSONL file a step), and parquet with a row group a step and with one row group in
all, which is what common writers make of it. Lengths are counted in characters, so that the texts are read. The memory
is the peak of the resident set over what the process has after its imports.
"""

import json
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from itertools import chain
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from balanced_agg.commands.terminal import print_table

PROMPTS, RESPONSES, MEAN_CHARACTERS = 256, 16, 8000  # a step: 4 096 rows, 33 MB
LETTERS = "".join(random.Random(0).choices("abcdefghijklmnopqrstuvwxyz      ", k=10**6))

MEASURED = """
import contextlib, io, re, sys, time
from pathlib import Path
import pyarrow.parquet
from balanced_agg.commands.inspect.command import run

def mebibytes(key):  # not ru_maxrss: a process starts with that of the one that started it
    return int(re.search(key + r":\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024

before, start = mebibytes("VmRSS"), time.perf_counter()
with contextlib.redirect_stdout(io.StringIO()):
    run([Path(sys.argv[1])], length_in="characters")
print(f"{mebibytes('VmHWM') - before:.1f} {time.perf_counter() - start:.1f}")
"""


def steps(size: int) -> Iterator[list[dict]]:
    """The rows of as many steps as have `size` characters; wrong responses are longer."""
    rng = random.Random(0)
    written = step = 0
    while written < size:
        step += 1
        rows = []
        for uid in (f"{step}-{prompt}_{session}_0" for prompt in range(PROMPTS) for session in range(RESPONSES)):
            score = float(rng.random() < 0.5)
            length = round(MEAN_CHARACTERS * rng.uniform(0.2, 1.8) * (0.8 if score else 1.2))
            start = rng.randrange(len(LETTERS) - length)
            row = {"input": uid.partition("_")[0], "output": LETTERS[start : start + length], "gts": "1"}
            rows.append(row | {"score": score, "step": step, "uid": uid})
            written += length
        yield rows


def write_dump(folder: Path, size: int) -> None:
    for number, rows in enumerate(steps(size), 1):
        (folder / f"{number}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_parquet(folder: Path, size: int, one_row_group: bool = False) -> None:
    batches = (pa.RecordBatch.from_pylist(rows) for rows in steps(size))
    first = next(batches)
    with pq.ParquetWriter(folder / "rollouts.parquet", first.schema, compression="none") as writer:
        for batch in chain([first], batches):
            if one_row_group:
                writer.write_batch(batch)  # appends to the row group at hand
            else:
                writer.write_table(pa.Table.from_batches([batch]))


def main() -> None:
    found = []
    for name, write in (
        ("STEP.jsonl", write_dump),
        ("parquet, a row group a step", write_parquet),
        ("parquet, one row group", partial(write_parquet, one_row_group=True)),
    ):
        for megabytes in (100, 1000):
            with tempfile.TemporaryDirectory() as folder:
                write(Path(folder), megabytes * 10**6)
                done = subprocess.run([sys.executable, "-c", MEASURED, folder], stdout=subprocess.PIPE, check=True)
            found.append((name, str(megabytes), *done.stdout.decode().split()))
    print_table(("rollouts", "MB", "MiB over imports", "s"), found)


if __name__ == "__main__":
    main()
