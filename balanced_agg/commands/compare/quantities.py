"""What is tabled and drawn of a run besides its validation: numbers that each training step logs."""

from collections.abc import Callable
from dataclasses import dataclass

from balanced_agg.runs.run import Run


@dataclass(frozen=True)
class Quantity:
    """Attributes:
    name: in JSON and in file names.
    label: for people; its unit behind a comma.
    metric: its key in a run's log; None if there is none, as for the share of positive responses under a mode that is
        not one of the known rules.
    digits: behind the point, in a table.
    """

    name: str
    label: str
    metric: Callable[[Run], str | None]
    digits: int

    def of(self, run: Run) -> dict[int, float]:
        """step -> value."""
        return run.series(self.metric(run))


def positive_share(run: Run) -> str | None:
    """The share under the rule that the run trains with; its log has those of the other rules too."""
    return f"aggregation/{run.rule}/positive_share" if run.rule else None


QUANTITIES = (
    Quantity("response_length", "response length, tokens", lambda run: "response_length/mean", 1),
    Quantity("length_gap", "length gap\n(positive - negative) / mean", lambda run: "aggregation/length_gap", 3),
    Quantity("entropy", "entropy, nats", lambda run: "actor/entropy", 3),
    Quantity("reward", "reward", lambda run: "critic/score/mean", 3),
    Quantity("positive_share", "share of gradient mass\non positive responses", positive_share, 3),
    Quantity("gradient_norm", "gradient norm", lambda run: "actor/grad_norm", 3),
)
