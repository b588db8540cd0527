"""Write an embedded task for verl: train and validation parquet files and a warm-started model.

`balanced-agg prepare arithmetic` does; a second run with the same options finds everything in place and does nothing.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from balanced_agg.data.prepare import Prepared

from balanced_agg.arithmetic.tasks import Problem, Task
from balanced_agg.atomic_write import atomic_write


def write_split(task: Task, problems: Sequence[Problem], split: str, path: Path) -> bool:
    """Write a row per problem, in verl's schema, unless `path` holds exactly these rows; True if it wrote.

    The write is atomic: a reader sees either the old or the new content.
    """
    table = pa.Table.from_pylist(
        [
            {
                "data_source": task.name,
                "prompt": problem.messages,
                "ability": "arithmetic",
                "reward_model": {"style": "rule", "ground_truth": problem.answer},
                "extra_info": {"index": index, "split": split},
            }
            for index, problem in enumerate(problems)
        ]
    )
    with suppress(FileNotFoundError, pa.ArrowInvalid):  # there is no file yet, or it is not a parquet file
        if pq.read_table(path).equals(table):
            return False
    with atomic_write(path) as temporary:
        pq.write_table(table, temporary)
    return True


def prepare_task(task: Task, out: Path, regime: str, seed: int = 0) -> Iterator[Prepared]:
    """Write train.parquet, validation.parquet and the warm-started model/ into `out`, unless they are there.

    `seed` is that of problems, noise and weights. ValueError for an unknown regime.
    """
    task.noise(regime)
    train_problems, validation_problems = task.train_validation_split(seed)
    for split, problems in (("train", train_problems), ("validation", validation_problems)):
        path = out / f"{split}.parquet"
        wrote = write_split(task, problems, split, path)
        yield Prepared(path, {"name": task.name, "rows": len(problems)}, wrote)

    # Read when torch is loaded. The warm start's threads wait for each other at every operation; spinning, they keep
    # each other off the cores that other programs use: on 2 cores at a load of 6, 3.5 s a step instead of 0.5.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # Both import torch.
    from transformers.utils.logging import disable_progress_bar

    from balanced_agg.arithmetic.warm_start import warm_start

    disable_progress_bar()  # of a save that takes 10 ms
    wrote = warm_start(task, regime, out / "model", train_problems, seed)
    yield Prepared(out / "model", {"name": task.name}, wrote)
