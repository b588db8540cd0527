"""gsm_symbolic (training and validation): grade-school word problems that reasoning-gym generates.

No question of the validation set is in the training set.
"""

from collections.abc import Iterable, Iterator

from balanced_agg.data.dataset import Dataset, Row, boxed_row


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


TRAIN = Dataset(
    name="gsm_symbolic",
    about="generated word problems, training",
    source="reasoning-gym",
    config="gsm_symbolic, seed 0",
    split="train",
    convert=boxed_row,
    generate=lambda: questions(2000, seed=0),
    problems=(2000,),
)
VALIDATION = Dataset(
    name="gsm_symbolic_validation",
    about="generated word problems, validation",
    data_source="gsm_symbolic",
    source="reasoning-gym",
    config="gsm_symbolic, seed 1",
    split="validation",
    convert=boxed_row,
    generate=lambda: questions(64, seed=1, without=(row["problem"] for row in TRAIN.generate())),
    problems=(64,),
)
