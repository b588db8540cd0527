"""Noisy worked solutions, from which the warm start learns a policy that is right half of the time.

A solution writes every step, then the marked answer: ``3+5=8;8-2=6;6+1=7;#7``. The noise is drawn
anew for each demonstration, whatever the problem, so a policy that imitates it is right on some
samples of a prompt and wrong on others, and most groups give a learning signal. The two regimes
differ only in how the length of a response relates to its being right.
"""

import random
from dataclasses import dataclass

from balanced_agg.arithmetic.problems import ANSWER_MARK, DIGITS, Problem


@dataclass(frozen=True)
class Regime:
    """How often, and how, the last step of a demonstration goes wrong. The steps before it are right.

    With `slip_rate` the last step ends with a wrong value, drawn uniformly, which is then the answer.

    With `doubt_rate_if_slip` or `doubt_rate_otherwise` the solver doubts the last step: before giving
    its value, he begins it again and again, ``6+1=?6+1=?6+1=?6+1=7;#7``. The number of these false
    starts is drawn uniformly from `min_restarts` to `max_restarts`.

    All noise is made such that a very small model, trained for a minute, has the same rates as the
    demonstrations. The doubt comes before the value, because to doubt a wrong value more often than a
    right one the model would have to tell them apart. It concerns the last step, because after a long
    interruption the model would often resume at the wrong place in the problem.
    """

    slip_rate: float
    doubt_rate_if_slip: float
    doubt_rate_otherwise: float
    min_restarts: int = 4
    max_restarts: int = 9


REGIMES = {
    # Doubt goes with slips: wrong responses are much longer than right ones.
    "length_gap": Regime(slip_rate=0.5, doubt_rate_if_slip=0.9, doubt_rate_otherwise=0.1),
    # Doubt says nothing about slips: lengths vary much, but right and wrong responses are alike.
    "length_spread": Regime(slip_rate=0.5, doubt_rate_if_slip=0.5, doubt_rate_otherwise=0.5),
}


def demonstrate(problem: Problem, regime: Regime, rng: random.Random) -> str:
    """One worked solution, with the noise of the regime drawn with `rng`, of a problem of at least one step."""
    slips = rng.random() < regime.slip_rate
    doubts = rng.random() < (regime.doubt_rate_if_slip if slips else regime.doubt_rate_otherwise)
    restarts = rng.randint(regime.min_restarts, regime.max_restarts) if doubts else 0
    answer = problem.values[-1]
    if slips:
        answer = (answer + rng.randrange(1, len(DIGITS))) % len(DIGITS)  # any digit but the right one

    *right, last = (
        f"{value}{operator}{operand}="
        for value, (operator, operand) in zip(problem.values[:-1], problem.steps, strict=True)
    )
    settled = "".join(f"{step}{value};" for step, value in zip(right, problem.values[1:-1], strict=True))
    return settled + f"{last}?" * restarts + f"{last}{answer};{ANSWER_MARK}{answer}"
