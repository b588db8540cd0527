"""Write the arithmetic task for verl: train and validation parquet files and a warm-started model.

Run from the repository root:

    python -m balanced_agg.data.arithmetic --regime length_gap

A second run with the same options finds everything in place and does nothing.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from balanced_agg.arithmetic.demonstrations import REGIMES
from balanced_agg.arithmetic.problems import Problem, train_validation_split
from balanced_agg.atomic_write import replacing

DATA_SOURCE = "arithmetic"


def to_rows(problems: Sequence[Problem], split: str) -> list[dict]:
    """One row per problem, in the schema of verl's RL datasets."""
    return [
        {
            "data_source": DATA_SOURCE,
            "prompt": problem.messages,
            "ability": "arithmetic",
            "reward_model": {"style": "rule", "ground_truth": problem.answer},
            "extra_info": {"index": index, "split": split},
        }
        for index, problem in enumerate(problems)
    ]


def write_parquet(rows: Sequence[dict], path: Path) -> bool:
    """Write the rows to `path` unless it holds exactly them; True if it wrote.

    The file is replaced at once: a reader sees either the old or the new content.
    ValueError if there are no rows, as then the columns have no types.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not rows:
        raise ValueError(f"no rows for {path}; ask for at least one problem")
    table = pa.Table.from_pylist(list(rows))
    try:
        if pq.read_table(path).equals(table):
            return False
    except (FileNotFoundError, pa.ArrowInvalid):
        pass  # there is no file yet, or it is not a parquet file
    with replacing(path) as unfinished:
        pq.write_table(table, unfinished)
    return True


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Write the arithmetic task and its warm-started model.")
    parser.add_argument("--regime", choices=sorted(REGIMES), required=True, help="how the demonstrations go wrong")
    parser.add_argument("--out", type=Path, help="directory to write to (default artifacts/arithmetic/REGIME)")
    parser.add_argument("--seed", type=int, default=0, help="of problems, noise and weights (default 0)")
    options = parser.parse_args(arguments)
    # Where configs/train_data/arithmetic.yaml looks.
    out = options.out or Path("artifacts", "arithmetic", options.regime)

    train_problems, validation_problems = train_validation_split(options.seed)
    for split, problems in (("train", train_problems), ("validation", validation_problems)):
        path = out / f"{split}.parquet"
        wrote = write_parquet(to_rows(problems, split), path)
        print(f"{path}: {'wrote' if wrote else 'kept, it already holds these'} {len(problems)} problems")

    # Both import torch: late, so --help is fast.
    from transformers.utils.logging import disable_progress_bar

    from balanced_agg.arithmetic.warm_start import warm_start

    disable_progress_bar()  # of a save that takes 10 ms
    path = out / "model"
    trained = warm_start(options.regime, path, options.seed, train_problems=train_problems)
    done = "trained" if trained else "kept, it was trained"
    print(f"{path}: {done} with regime {options.regime} and seed {options.seed}")


if __name__ == "__main__":
    main()
