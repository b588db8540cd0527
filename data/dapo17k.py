"""DAPO-Math-17k (training): integer answers, prompts as shipped.

The hub's file repeats 17 917 (prompt, answer) pairs 100 times. They have 17 398 distinct prompts: the number that is
asserted, before the prompts with more than one answer are dropped.
"""

from balanced_agg.data.dataset import Dataset, Problem, Row, Unusable, identifier, pick, required


def is_message(message: object) -> bool:
    return isinstance(message, dict) and all(isinstance(message.get(key), str) for key in ("role", "content"))


def convert(row: Row) -> Problem:
    messages, reward_model, extra_info = pick(row, "prompt"), pick(row, "reward_model"), row.get("extra_info")
    if not isinstance(messages, list) or not all(map(is_message, messages)):
        raise Unusable("the prompt is not a list of messages")
    if not any(message["content"].strip() for message in messages):
        raise Unusable("no prompt")
    if not isinstance(reward_model, dict):
        raise Unusable("reward_model has no fields")
    return Problem(
        [{"role": message["role"], "content": message["content"]} for message in messages],
        required(reward_model, "ground_truth"),
        id=identifier(extra_info, "index") if isinstance(extra_info, dict) else "",
    )


DATASET = Dataset(
    name="dapo17k",
    about="DAPO-Math-17k, training: integer answers",
    data_source="math_dapo",
    source="BytedTsinghua-SIA/DAPO-Math-17k",
    split="train",
    files="data/*.parquet",
    convert=convert,
    problems=(17_398,),
    asserted=True,
    aliases=("dapo17k", "dapomath17k"),
)
