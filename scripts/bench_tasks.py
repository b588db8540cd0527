"""Which tasks of reasoning-gym a small language model can do at all: what it answers before any training.

    balanced-agg prepare smollm2_135m
    VLLM_CPU_KVCACHE_SPACE=1 python scripts/bench_tasks.py artifacts/models/smollm2_135m [PROBLEMS] [RESPONSES] [TOKENS]

Of each setting: the share of right responses, of problems with right and wrong ones, their mean lengths in tokens, and
the share that was cut off. 16 problems x 4 responses of at most 96 tokens, at temperature 1; the last number counts.
"""

import sys
from statistics import fmean

import reasoning_gym
from vllm import LLM, CompletionOutput, SamplingParams

from balanced_agg.rewards import compute_score

TWO, DIGITS = {"min_terms": 2, "max_terms": 2}, {"min_digits": 1, "max_digits": 1}
TASKS = [
    ("chain_sum", TWO | DIGITS),
    ("chain_sum", {"min_terms": 3, "max_terms": 3} | DIGITS),
    ("chain_sum", TWO | {"min_digits": 2, "max_digits": 2}),
    ("products", TWO | DIGITS),
    ("basic_arithmetic", TWO | DIGITS),
    ("decimal_chain_sum", TWO | DIGITS | {"min_decimal_places": 1, "max_decimal_places": 1}),
    ("lcm", {"max_value": 10}),
    ("gcd", {"max_value": 20}),
    ("count_bits", {"max_n": 15}),
    ("count_primes", {"max_n": 20}),
    ("coin_flip", {"max_trials": 3}),
    ("letter_counting", {"max_words": 5}),
    ("simple_equations", {"max_terms": 2, "max_value": 10}),
    ("leg_counting", {"min_animals": 1, "max_animals": 1, "max_instances": 3}),
    ("leg_counting", {"min_animals": 2, "max_animals": 2, "max_instances": 3}),
    ("number_sequence", {"max_terms": 5, "max_complexity": 1}),
    ("gsm_symbolic", {}),
]


def main(model: str, problems: int = 16, responses: int = 4, tokens: int = 96) -> None:
    llm = LLM(model, dtype="float32", max_model_len=512, enforce_eager=True)
    params = SamplingParams(n=responses, temperature=1.0, max_tokens=tokens)
    print("| task | settings | right | mixed | tokens, right | wrong | cut off |\n|---|---|---|---|---|---|---|")
    for task, settings in TASKS:
        rows = list(reasoning_gym.create_dataset(task, size=problems, seed=7, **settings))
        chats = [[{"role": "user", "content": row["question"]}] for row in rows]
        done = llm.chat(chats, params, use_tqdm=False)
        graded = [grade(request.outputs, str(row["answer"])) for request, row in zip(done, rows, strict=True)]
        values = ", ".join(f"{name}={value}" for name, value in settings.items())
        print("|", " | ".join((task, values, *figures(graded))), "|", flush=True)  # the next may take a minute


def grade(outputs: list[CompletionOutput], answer: str) -> list[tuple[bool, int, bool]]:
    """Of each response whether it is right, its tokens, and whether it was cut off."""
    return [
        (
            compute_score("chain_sum", each.text, answer)["score"] == 1,
            len(each.token_ids),
            each.finish_reason == "length",
        )
        for each in outputs
    ]


def figures(groups: list[list[tuple[bool, int, bool]]]) -> list[str]:
    rows = [row for group in groups for row in group]
    lengths = [[tokens for right, tokens, _ in rows if right is of] for of in (True, False)]
    return [
        f"{fmean(right for right, *_ in rows):.2f}",
        f"{fmean(len({right for right, *_ in group}) == 2 for group in groups):.2f}",
        *(f"{fmean(each):.0f}" if each else "-" for each in lengths),
        f"{fmean(cut for *_, cut in rows):.2f}",
    ]


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
