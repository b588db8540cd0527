#!/usr/bin/env python3
"""Memory and time of `balanced-agg inspect` on generated rollouts: does either grow with what is on disk?

For each size: verl's dump (a JSONL file a step), and parquet with a row group a step and with one row group in all,
which is what common writers make of it. Lengths are counted in characters, so that the texts are read.

The memory is the peak of the resident set over what the process has after its imports. The rollouts are written to a
temporary folder (TMPDIR) one after the other, and deleted.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

PROMPTS, RESPONSES, MEAN_CHARACTERS = 256, 16, 8000  # a step: 4 096 rows, 33 MB

MEASURED = """
import contextlib, io, json, re, sys, time
from pathlib import Path
import pyarrow.parquet
from balanced_agg.commands.inspect.command import run

def memory(key):
    # Not ru_maxrss: a process starts with that of the one that started it.
    status = Path("/proc/self/status").read_text()
    return int(re.search(key + r":\\s+(\\d+) kB", status)[1]) / 1024

before, start = memory("VmRSS"), time.perf_counter()
with contextlib.redirect_stdout(io.StringIO()) as printed:
    run([Path(sys.argv[1])], as_json=True, length_in="characters")
seconds = time.perf_counter() - start
steps = json.loads(printed.getvalue())["steps"]
responses = sum(step["responses"] for step in steps)
print(json.dumps({"MiB": memory("VmHWM") - before, "s": seconds, "steps": len(steps), "responses": responses}))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, nargs="+", default=[100, 1000])
    options = parser.parse_args()
    print(f"{'rollouts':32}{'MB on disk':>12}{'steps':>8}{'responses':>12}{'MiB over imports':>18}{'s':>8}")
    for name, write in (
        ("STEP.jsonl", write_dump),
        ("parquet, a row group a step", lambda folder, size: write_parquet(folder, size, False)),
        ("parquet, one row group", lambda folder, size: write_parquet(folder, size, True)),
    ):
        for megabytes in options.megabytes:
            with tempfile.TemporaryDirectory() as folder:
                write(Path(folder), megabytes * 10**6)
                size = sum(file.stat().st_size for file in Path(folder).iterdir()) / 10**6
                done = subprocess.run([sys.executable, "-c", MEASURED, folder], capture_output=True, check=True)
            found = json.loads(done.stdout)
            print(
                f"{name:32}{size:12.0f}{found['steps']:8}{found['responses']:12}{found['MiB']:18.1f}{found['s']:8.1f}",
                flush=True,
            )


def steps(size: int) -> Iterator[list[dict]]:
    """Steps of rows until about `size` bytes are reached; wrong responses are longer."""
    rng = random.Random(0)
    letters = "".join(rng.choices("abcdefghijklmnopqrstuvwxyz      ", k=10**6))
    written = step = 0
    while written < size:
        step += 1
        rows = []
        for prompt in range(PROMPTS):
            for session in range(RESPONSES):
                score = float(rng.random() < 0.5)
                length = round(MEAN_CHARACTERS * rng.uniform(0.2, 1.8) * (0.8 if score else 1.2))
                start = rng.randrange(10**6 - length)
                written += length
                row = {"input": f"problem {prompt}", "output": letters[start : start + length], "gts": "1"}
                rows.append(row | {"score": score, "step": step, "uid": f"{step}-{prompt}_{session}_0"})
        yield rows


def write_dump(folder: Path, size: int) -> None:
    for rows in steps(size):
        with (folder / f"{rows[0]['step']}.jsonl").open("w") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)


def write_parquet(folder: Path, size: int, one_row_group: bool) -> None:
    writer = None
    for rows in steps(size):
        batch = pa.RecordBatch.from_pylist(rows)
        writer = writer or pq.ParquetWriter(folder / "rollouts.parquet", batch.schema, compression="none")
        if one_row_group:
            writer.write_batch(batch)  # goes on with the row group at hand
        else:
            writer.write_table(pa.Table.from_batches([batch]))
    writer.close()


if __name__ == "__main__":
    main()
