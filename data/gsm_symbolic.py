"""gsm_symbolic (training and validation): grade-school word problems that reasoning-gym generates.

No question of the validation set is in the training set.
"""

from collections.abc import Iterable, Iterator

from balanced_agg.data.dataset import Dataset, Row, boxed_row

TRAIN_ROWS, TRAIN_SEED = 2000, 0
VALIDATION_ROWS, VALIDATION_SEED = 64, 1


def questions(rows: int, seed: int, without: Iterable[str] = ()) -> Iterator[Row]:
    """The first distinct questions of a seed that are not among the given ones."""
    import reasoning_gym

    taken = set(without)
    # A few questions repeat; of twice the number enough are left.
    for row in reasoning_gym.create_dataset("gsm_symbolic", size=2 * rows, seed=seed):
        if row["question"] not in taken:
            taken.add(row["question"])
            yield {"problem": row["question"], "answer": row["answer"]}
            rows -= 1
        if not rows:
            return
    raise ValueError(f"seed {seed} of gsm_symbolic has {rows} distinct questions too few; choose another one")


def train() -> Iterator[Row]:
    return questions(TRAIN_ROWS, TRAIN_SEED)


def validation() -> Iterator[Row]:
    return questions(VALIDATION_ROWS, VALIDATION_SEED, without=(row["problem"] for row in train()))


TRAIN = Dataset(
    name="gsm_symbolic",
    about="generated word problems, training",
    source="reasoning-gym",
    config=f"gsm_symbolic, seed {TRAIN_SEED}",
    split="train",
    convert=boxed_row,
    generate=train,
    problems=(TRAIN_ROWS,),
)
VALIDATION = Dataset(
    name="gsm_symbolic_validation",
    about="generated word problems, validation",
    data_source="gsm_symbolic",
    source="reasoning-gym",
    config=f"gsm_symbolic, seed {VALIDATION_SEED}",
    split="validation",
    convert=boxed_row,
    generate=validation,
    problems=(VALIDATION_ROWS,),
)
