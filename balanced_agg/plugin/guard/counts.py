"""How many of a step's responses never came, or have a default in place of a score."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from balanced_agg.plugin.guard.scores import REASON
from balanced_agg.runs import verl_keys


@dataclass(frozen=True)
class Faults:
    expected: int  # responses that were asked for
    came: int
    defaulted: int  # of those that came, with a default score
    first_reason: str | None  # of a default that told one

    @property
    def metrics(self) -> dict[str, float]:
        """As logged; a share of nothing is left out."""
        counts = {"rollout/missing": max(0, self.expected - self.came), "reward/defaulted": self.defaulted}
        return counts | ({"reward/defaulted_share": self.defaulted / self.came} if self.came else {})

    def check(self, step: int) -> None:
        """RuntimeError if most of the scores are defaults."""
        if 2 * self.defaulted > self.came:
            raise RuntimeError(
                f"step {step}: {self.defaulted} of {self.came} scores did not come and would be 0 by default "
                f"({self.first_reason or 'grader_failed'}); the run stops before it trains on them. Mend the reward "
                "function (the log has a traceback of each kind of error), or raise reward.timeout, and start the "
                "same command again"
            )


def count_faults(keys: Sequence[str], extra_fields: Sequence[dict[str, Any]], expected: int) -> Faults:
    """Count by responses: a session's last output has its score.

    `extra_fields` are verl's, one dict for each key; keys of padding rows must have been left out.
    """
    parsed = zip(map(verl_keys.parse, keys), extra_fields, strict=True)
    last = {key.session: fields for key, fields in sorted(parsed, key=lambda row: row[0].output)}
    reported = [fields.get("reward_extra_info") or {} for fields in last.values()]
    reasons = [info[REASON] for info in reported if REASON in info]
    defaulted = sum(info.get("grader_failed", 0) > 0 for info in reported)
    return Faults(expected, len(last), defaulted, reasons[0] if reasons else None)
