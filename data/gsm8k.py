"""GSM8K: grade-school word problems, to train on and to test with. The answer is the number behind ``####``."""

from dataclasses import replace

from balanced_agg.data.dataset import Dataset, Problem, Row, Unusable, identifier, required, unwrapped

from balanced_agg.rewards.gsm8k import MARK, number_in

# verl's words (its examples/data_preprocess/gsm8k.py), so that the scores it publishes can be compared with.
INSTRUCTION = f'Let\'s think step by step and output the final answer after "{MARK}".'


def gsm8k_problem(row: Row) -> Problem:
    """A row of the source, whose answer is a solution that ends in the number, or one in verl's schema."""
    row = unwrapped(row)
    answer = required(row, "answer", "final_answer").rpartition(MARK)[2].strip().replace(",", "")
    if number_in(answer) is None:
        raise Unusable(f"no number behind {MARK}")
    question = required(row, "question", "problem")
    return Problem([{"role": "user", "content": f"{question} {INSTRUCTION}"}], answer, id=identifier(row, "id", "idx"))


TRAIN = Dataset(
    name="gsm8k_train",
    about="GSM8K, training: numbers",
    data_source="gsm8k",
    source="openai/gsm8k",
    config="main",
    split="train",
    convert=gsm8k_problem,
    files="main/train*.parquet",
    problems=(7473,),
    instruction=INSTRUCTION,
)
TEST = replace(
    TRAIN, name="gsm8k_test", about="GSM8K, test: numbers", split="test", files="main/test*.parquet", problems=(1319,)
)
