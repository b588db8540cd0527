"""The task `search`: put signs between digits so that they reach a target; try, try again, give up, or claim.

The problem ``3256=4:`` asks for + or - in each gap such that every value on the way is a digit and the last one is the
target. A response is attempts, each worked out to its end or to the first value that is no digit, with ``x`` between
them: ``3+2=5+5=10`` is never written, the attempt stops as ``3+2=5+5``. It ends in ``!``, which claims that the last
attempt is right, or in ``?``, which gives up. Right and wrong, short and long are thus the policy's own choice, as in
reasoning: trying on makes a response longer and more often right, claiming falsely makes it short and wrong.
"""

import random
import re
from dataclasses import dataclass
from itertools import count, pairwise, product

from balanced_agg.arithmetic.problems import DIGITS

GAPS = 3
SIGNS = "+-"
AGAIN, CLAIM, GIVE_UP = "x", "!", "?"
_PROBLEM = re.compile(rf"([0-9]{{{GAPS + 1}}})=([0-9])")


@dataclass(frozen=True)
class SearchProblem:
    """Digits and the target that some signs between them reach."""

    digits: tuple[int, ...]
    target: int

    @property
    def answer(self) -> str:
        """What the grader is given: the problem, since any signs that reach the target are right."""
        return "".join(map(str, self.digits)) + f"={self.target}"

    @property
    def text(self) -> str:
        """The problem as the user writes it, e.g. ``3256=4:``."""
        return f"{self.answer}:"

    @property
    def messages(self) -> list[dict[str, str]]:
        """The problem as a chat of one user message."""
        return [{"role": "user", "content": self.text}]

    def attempt(self, signs: str) -> tuple[str, bool]:
        """The attempt with these signs, one a gap, as far as its values are digits; whether it reaches the target."""
        value, text = self.digits[0], str(self.digits[0])
        for sign, digit in zip(signs, self.digits[1:], strict=True):
            value += digit if sign == "+" else -digit
            text += f"{sign}{digit}"
            if value not in DIGITS:
                return text, False
            text += f"={value}"
        return text, value == self.target


def sample_problems(number: int, seed: int) -> list[SearchProblem]:
    """`number` distinct problems, whose values on the way are a random walk over the digits that never stays in place.

    The same arguments give the same list. A shorter list is a prefix of a longer one with the same seed. There are
    6 754 problems in all.
    """
    rng = random.Random(f"search-{seed}")
    problems: dict[SearchProblem, None] = {}
    while len(problems) < number:
        values = [rng.choice(DIGITS)]
        for _ in range(GAPS):
            values.append(rng.choice([digit for digit in DIGITS if digit != values[-1]]))
        digits = values[0], *(abs(after - before) for before, after in pairwise(values))
        problems[SearchProblem(digits, values[-1])] = None
    return list(problems)


def parse_problem(answer: str) -> SearchProblem:
    """The problem of :attr:`SearchProblem.answer`. ValueError for anything else, and if no signs reach the target."""
    found = isinstance(answer, str) and _PROBLEM.fullmatch(answer)
    if not found:
        raise ValueError(f"not a problem of the task search, {GAPS + 1} digits, = and a digit: {answer!r}")
    problem = SearchProblem(tuple(map(int, found[1])), int(found[2]))
    if not any(problem.attempt("".join(signs))[1] for signs in product(SIGNS, repeat=GAPS)):
        raise ValueError(f"not a problem of the task search, no signs reach the target: {answer!r}")
    return problem


def is_right(response_text: str, answer: str) -> bool:
    """Whether a response claims, and its last attempt is worked out without a slip and reaches the target.

    Attempts before the last count for nothing, whatever they say. A response that gives up, is cut off, or goes on
    after its claim is wrong. Any string is accepted. ValueError for an ``answer`` that is no problem.
    """
    problem = parse_problem(answer)
    last = response_text.rstrip().rpartition(AGAIN)[2]
    signs = last[1::4]  # of 3+2=5+5=…, should it be one
    if len(signs) != GAPS + 1 or signs[-1] != CLAIM or not set(signs[:-1]) <= set(SIGNS):
        return False
    return problem.attempt(signs[:-1]) == (last.removesuffix(CLAIM), True)


@dataclass(frozen=True)
class Patience:
    """The probability that a demonstration gives up after a failed attempt: `early` for the first so many attempts,
    `late` for each further one.
    """

    attempts: int
    early: float
    late: float


REGIMES = {
    # Some give up early, so that wrong demonstrations have .8 of the length of right ones. The model's own false claims
    # are as long as its right ones, and its right and wrong responses equally long.
    "length_spread": Patience(attempts=3, early=0.2, late=0.1),
    # Nobody gives up early: wrong responses are longer than right ones.
    "length_gap": Patience(attempts=4, early=0.0, late=0.5),
}


def demonstrate(problem: SearchProblem, regime: Patience, rng: random.Random) -> str:
    """Attempts with signs drawn by `rng` until one reaches the target, or the regime's patience ends."""
    text = ""
    for number in count(1):
        attempt, reached = problem.attempt("".join(rng.choice(SIGNS) for _ in range(GAPS)))
        text += attempt
        if reached:
            return text + CLAIM
        if rng.random() < (regime.early if number <= regime.attempts else regime.late):
            return text + GIVE_UP
        text += AGAIN
    raise AssertionError("count ends")
