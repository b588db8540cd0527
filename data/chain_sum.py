"""chain_sum (training and validation): sums and differences of two numbers of one digit, out of reasoning-gym.

There are 200 such questions, which is as many as a pretrained model of 135M parameters finds neither easy nor hopeless:
of 17 settings of reasoning-gym's tasks it solves only these and products of two digits at a rate of 20 to 60 %
(docs/study.md). No question of the validation set is in the training set.
"""

from collections.abc import Iterable, Iterator

from balanced_agg.data.dataset import Dataset, Problem, Row, required

SETTINGS = {"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 1}


def questions(rows: int, seed: int, without: Iterable[str] = ()) -> Iterator[Row]:
    """The first distinct questions of a seed that are not among the given ones."""
    import reasoning_gym

    taken = set(without)
    # Most of what is drawn repeats what was drawn before.
    for row in reasoning_gym.create_dataset("chain_sum", size=100 * rows, seed=seed, **SETTINGS):
        if row["question"] not in taken:
            taken.add(row["question"])
            yield {"problem": row["question"], "answer": row["answer"]}
            rows -= 1
        if not rows:
            return
    raise ValueError(f"seed {seed} of chain_sum has {rows} distinct questions too few; choose another one")


def problem(row: Row) -> Problem:
    """The question alone is the prompt: it says what to answer with."""
    return Problem([{"role": "user", "content": required(row, "problem")}], required(row, "answer"))


TRAIN = Dataset(
    name="chain_sum",
    about="generated sums of two digits, training",
    source="reasoning-gym",
    config="chain_sum, seed 0",
    split="train",
    convert=problem,
    generate=lambda: questions(152, seed=0),
    problems=(152,),
    instruction="",
)
VALIDATION = Dataset(
    name="chain_sum_validation",
    about="generated sums of two digits, validation",
    data_source="chain_sum",
    source="reasoning-gym",
    config="chain_sum, seed 1",
    split="validation",
    convert=problem,
    generate=lambda: questions(48, seed=1, without=(row["problem"] for row in TRAIN.generate())),
    problems=(48,),
    instruction="",
)
