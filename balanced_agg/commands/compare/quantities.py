"""What is tabled and drawn of a run besides its validation: numbers that each training step logs."""

from typing import NamedTuple

from balanced_agg.loss.rules import RULE_OF
from balanced_agg.runs.run import Run


class Quantity(NamedTuple):
    """Attributes:
    name: in JSON and in file names.
    label: for people; its unit behind a comma.
    metric: its key in a run's log. RULE stands for the rule that the run trains with; a run under a mode that is none
        of the known rules does not have it, though its log has those of the other rules.
    digits: behind the point, in a table.
    """

    name: str
    label: str
    metric: str
    digits: int = 3

    def of(self, run: Run) -> dict[int, float]:
        """step -> value."""
        return run.series(self.metric.replace("RULE", RULE_OF.get(run.mode, run.mode)))


QUANTITIES = (
    Quantity("response_length", "response length, tokens", "response_length/mean", digits=1),
    Quantity("length_gap", "length gap\n(positive - negative) / mean", "aggregation/length_gap"),
    Quantity("entropy", "entropy, nats", "actor/entropy"),
    Quantity("reward", "reward", "critic/score/mean"),
    Quantity("positive_share", "share of gradient mass\non positive responses", "aggregation/RULE/positive_share"),
    Quantity("gradient_norm", "gradient norm", "actor/grad_norm"),
)
