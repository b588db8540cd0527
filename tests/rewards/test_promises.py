"""Two promises beside math-verify, over named rewritings of the golds of real files; with ``-s`` a table is printed.

No pair that is equal and that math-verify accepts is refused; no pair that is unequal and that math-verify refuses is
accepted. And more than that: `answers_equal` is right about every pair.
"""

import logging

import math_verify
import pytest

from balanced_agg.commands.terminal import print_table
from balanced_agg.rewards.equality import answers_equal
from tests.real_data import golds
from tests.rewards.rewritings import EQUAL, UNEQUAL, Rewriting

FILES = ("math500.jsonl", "aime2024.jsonl", "olympiadbench.jsonl")
HEADER = ("rewriting", "pairs", "accepted", "by math-verify", "promise broken")


def math_verify_accepts(gold: str, answer: str) -> bool:
    """By itself, as its documentation has it."""
    texts = (gold if "$" in gold else f"${gold}$", rf"\boxed{{{answer}}}")
    return math_verify.verify(*(math_verify.parse(text, parsing_timeout=None) for text in texts), timeout_seconds=None)


def check(title: str, rewritings: dict[str, Rewriting], equal: bool, every: int) -> None:
    logging.getLogger("math_verify").setLevel(logging.CRITICAL)  # it warns that it has no time limit
    sample = list(dict.fromkeys(gold.strip() for file in FILES for gold in golds(file)))[::every]
    rows, broken, wrong = [], [], []
    for name, rewriting in rewritings.items():
        pairs = dict.fromkeys(pair for gold in sample for pair in rewriting(gold))
        ours = [answers_equal(*pair) for pair in pairs]
        theirs = [math_verify_accepts(*pair) for pair in pairs]
        wrong += [(name, pair) for pair, verdict in zip(pairs, ours, strict=True) if verdict != equal]
        promised = [pair for pair, *verdicts in zip(pairs, ours, theirs, strict=True) if verdicts == [not equal, equal]]
        broken += [(name, pair) for pair in promised]
        rows.append((name, len(pairs), sum(ours), sum(theirs), len(promised)))
    print_table(HEADER, rows, title=title)
    assert broken == []
    assert wrong == []


@pytest.mark.parametrize(
    "every",
    [
        pytest.param(100, id="some golds"),
        pytest.param(7, id="many golds", marks=pytest.mark.slow),
        pytest.param(1, id="all golds", marks=pytest.mark.evidence),
    ],
)
@pytest.mark.parametrize(("title", "rewritings", "equal"), [("equal", EQUAL, True), ("unequal", UNEQUAL, False)])
def test_what_math_verify_gets_right_is_right(title, rewritings, equal, every):
    check(title, rewritings, equal, every)
