"""Chain-arithmetic problems: generation by seed, the answer by rule, and the grading rule.

A problem is a chain of digits joined by ``+`` and ``-`` and read from left to right, such as
``3+5-2+1=`` with the answer 7. Every intermediate value is again a single digit, so that each step is
one of 90 one-character facts, which a very small model can learn in a minute.
"""

import random
import re
from dataclasses import dataclass
from itertools import pairwise

DIGITS = range(10)
MIN_STEPS, MAX_STEPS = 3, 5
ANSWER_MARK = "#"

# The answer is what stands between the last mark and the end of the response, and nothing else may
# stand there. [0-9] rather than \d, which also matches the digits of other scripts.
_MARKED_ANSWER = re.compile(rf"{ANSWER_MARK}([0-9])\s*\Z")


@dataclass(frozen=True)
class Problem:
    """A chain by its values: the first operand, and what each step makes of the value before it."""

    values: tuple[int, ...]

    @property
    def steps(self) -> tuple[tuple[str, int], ...]:
        """The (operator, operand) pairs that follow the first operand."""
        return tuple(("+" if after > before else "-", abs(after - before)) for before, after in pairwise(self.values))

    @property
    def text(self) -> str:
        """The problem as the user writes it, e.g. ``3+5-2+1=``."""
        return str(self.values[0]) + "".join(f"{operator}{right}" for operator, right in self.steps) + "="

    @property
    def messages(self) -> list[dict[str, str]]:
        """The problem as a chat of one user message."""
        return [{"role": "user", "content": self.text}]

    @property
    def answer(self) -> str:
        """The right answer, one digit. A problem without operators is its own answer."""
        return str(self.values[-1])


def sample_problems(count: int, seed: int) -> list[Problem]:
    """`count` distinct problems of MIN_STEPS to MAX_STEPS steps (operators), the number of steps drawn uniformly.

    The values of a problem are a random walk over the digits that never stays in place, so that every
    answer is equally likely and every operand is at least 1 (the first one may be 0).

    The same arguments give the same list. A shorter list is a prefix of a longer one with the same seed.
    There are 663 390 problems in all, and drawing without repetition becomes slow near that number.
    """
    rng = random.Random(f"problems-{seed}")
    problems: dict[Problem, None] = {}  # a dict keeps the order of drawing, a set would not
    while len(problems) < count:
        values = [rng.choice(DIGITS)]
        for _ in range(rng.randint(MIN_STEPS, MAX_STEPS)):
            values.append(rng.choice([digit for digit in DIGITS if digit != values[-1]]))
        problems[Problem(tuple(values))] = None
    return list(problems)


def is_correct(response_text: str, answer: str) -> bool:
    """Whether the digit that the response marks as its final answer is `answer`; False if there is none.

    Only a response that ends in the mark and one digit (``...#3``, trailing whitespace allowed) has
    an answer. A response cut off before that, or one that continues after it, has none. Of several
    marks only the last counts. Any string is accepted, including the empty one.
    """
    match = _MARKED_ANSWER.search(response_text)
    return match is not None and match[1] == answer
