"""The embedded tasks by name: what the warm start, the data files and the command need to know of each."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from balanced_agg.arithmetic import demonstrations, problems, search


class Problem(Protocol):
    """A problem as the user writes it, and what its grader is given."""

    @property
    def text(self) -> str: ...
    @property
    def messages(self) -> list[dict[str, str]]: ...
    @property
    def answer(self) -> str: ...


@dataclass(frozen=True)
class Task:
    """A task of one alphabet, whose demonstrations have a regime.

    Attributes:
        name: its data source, and the folder of its files below artifacts/.
        alphabet: the characters of problems and responses, each a token.
        sample_problems: so many distinct problems by a seed; fewer are a prefix of more.
        regimes: how lengths of right and wrong demonstrations relate, a dataclass each, by name.
        demonstrate: a response to a problem in a regime.
        warm_start_steps: of the supervised training.
        longest: tokens; demonstrations are cut there.
    """

    name: str
    alphabet: str
    sample_problems: Callable[[int, int], list[Any]]
    regimes: Mapping[str, Any]
    demonstrate: Callable[[Any, Any, random.Random], str]
    warm_start_steps: int
    longest: int

    def train_validation_split(
        self, seed: int, train_count: int = 4096, validation_count: int = 128
    ) -> tuple[Sequence[Problem], Sequence[Problem]]:
        """Train and validation problems with no problem in common.

        Validation problems are drawn first, so that they do not change with `train_count`.
        """
        drawn = self.sample_problems(train_count + validation_count, seed)
        return drawn[validation_count:], drawn[:validation_count]

    def noise(self, regime: str) -> dict[str, Any]:
        """A regime as plain values. ValueError for one that the task does not have."""
        if regime not in self.regimes:
            raise ValueError(f"{self.name} has no regime {regime}: give one of {', '.join(sorted(self.regimes))}")
        return asdict(self.regimes[regime])


ARITHMETIC = Task(
    "arithmetic",
    "0123456789+-=;?#",
    problems.sample_problems,
    demonstrations.REGIMES,
    demonstrations.demonstrate,
    warm_start_steps=350,
    longest=80,
)
SEARCH = Task(
    "search",
    "0123456789+-=:x!?",
    search.sample_problems,
    search.REGIMES,
    search.demonstrate,
    warm_start_steps=900,
    longest=128,
)
TASKS = {task.name: task for task in (ARITHMETIC, SEARCH)}
