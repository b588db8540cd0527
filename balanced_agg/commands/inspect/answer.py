"""What Balanced Aggregation would change: means over the steps, and what they say in sentences."""

from collections.abc import Sequence
from math import ceil
from statistics import fmean

from balanced_agg.commands.inspect.steps import StepMeasures
from balanced_agg.loss.rules import Rule

MEASURES = ("positive_share", "drift", "long_token_weight", "long_token_weight_within_sign", "effective_sequences")

# Differences below these are called none.
SHARE_POINTS = 1.0  # of 100, the whole gradient
WEIGHT_RATIO = 0.05  # of token weights
GAP = 0.02  # of lengths, relative


def summary(steps: Sequence[StepMeasures], rules: Sequence[Rule]) -> dict[str, dict[str, float | None]]:
    """The mean of each measure of each aggregation over the steps that define it; None where no step does."""
    return {rule.name: {measure: _mean(steps, f"{rule.name}/{measure}") for measure in MEASURES} for rule in rules}


def sentences(steps: Sequence[StepMeasures]) -> list[str]:
    """The answer to "what would BA change in my run?" for each aggregation that it may use, from the measures alone."""
    acting = [step for step in steps if "balanced/positive_share" in step.metrics]
    if not acting:
        return ["No response has an advantage other than 0: there is no gradient that an aggregation could change."]
    if all(step.responses == step.groups for step in steps):
        return [
            "Every group has one response, so that there is nothing to balance: Balanced Aggregation needs rollout.n "
            "of 2 or more. If the run has that, name the column that is equal within a group by --group-field."
        ]
    return [
        _on_signs(acting, "token", "group-token-mean") + _reason(acting),
        _on_signs(acting, "batch_token", "token-mean (verl's default)"),
        _on_lengths(acting),
    ]


def _on_signs(steps: Sequence[StepMeasures], aggregation: str, name: str) -> str:
    """Where a token aggregation gives the gradient, and how far BA would move it."""
    now, balanced = (_over_steps(steps, f"{which}/positive_share") for which in (aggregation, "balanced"))
    moved = [100 * (after - before) for before, after in zip(now, balanced, strict=True)]
    text = (
        f"Under {name} the positive responses get {_percent(fmean(now))} of the gradient, under balanced "
        f"{_percent(fmean(balanced))}: "
    )
    smallest, largest = min(map(abs, moved)), max(map(abs, moved))
    by_step = len(moved) > 1
    if largest < SHARE_POINTS:
        return f"{text}BA and it differ by no more than {_rounded_up(largest)} points{' at any step' * by_step}."
    if min(moved) < 0 < max(moved):
        return (
            f"{text}BA would move {min(moved):+.1f} to {max(moved):+.1f} points to the positive ones, depending on the "
            f"step, and {fmean(moved):+.1f} on average."
        )
    gains, loses = ("positive", "negative") if fmean(moved) > 0 else ("negative", "positive")
    spread = f" ({smallest:.1f} to {largest:.1f} by step)" if by_step else ""
    return f"{text}BA would move {abs(fmean(moved)):.1f} points{spread} from the {loses} to the {gains} responses."


def _reason(steps: Sequence[StepMeasures]) -> str:
    gap = _mean(steps, "length_gap_within_group")
    if gap is None:
        return " No group has responses of both signs."
    if abs(gap) < GAP:
        return f" To the same prompt, positive and negative responses are about equally long (gap {gap:+z.2f})."
    return (
        f" To the same prompt, {'positive' if gap > 0 else 'negative'} responses are the longer ones (gap {gap:+.2f})."
    )


def _on_lengths(steps: Sequence[StepMeasures]) -> str:
    text = "Under seq-mean-token-mean (GRPO) "
    of_all = _mean(steps, "sequence/long_token_weight")
    within = _mean(steps, "sequence/long_token_weight_within_sign")
    if of_all is None:
        return f"{text}a single response has a gradient, so that no long response stands beside a short one."
    balanced = _mean(steps, "balanced/long_token_weight")
    text += (
        f"a token in the longest quarter of the responses has {of_all:.2f} times the weight of one in the shortest, "
        f"under balanced {balanced:.2f} times"
    )
    if within is None:
        return f"{text}; no group has two responses of one sign."
    even = _mean(steps, "balanced/long_token_weight_within_sign")
    text += f"; among responses of one sign to the same prompt {within:.2f} times, under balanced {even:.2f}"
    if abs(within - even) < WEIGHT_RATIO:
        return f"{text}: BA would change next to nothing in the weight of tokens."
    return f"{text}: that weight by a response's own length is what BA would take away."


def _over_steps(steps: Sequence[StepMeasures], key: str) -> list[float]:
    return [step.metrics[key] for step in steps if key in step.metrics]


def _mean(steps: Sequence[StepMeasures], key: str) -> float | None:
    values = _over_steps(steps, key)
    return fmean(values) if values else None


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _rounded_up(points: float) -> str:
    """Round up to one decimal, so that it stays a bound."""
    return f"{ceil(10 * points) / 10:.1f}"
