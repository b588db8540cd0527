"""Recorded runs made by hand, with effects that are known."""

from collections.abc import Callable, Iterable
from zlib import crc32

import numpy as np

from balanced_agg.commands.study.command import read_plan
from balanced_agg.commands.study.hypotheses import ARITHMETIC, MAIN
from balanced_agg.commands.study.record import METRICS, Key, Record, StudyRun

PLAN = read_plan("rules")
# The same with three seeds of each stage, so that an order is soon complete.
FEW = [{**entry, "seeds": entry["seeds"][:3]} for entry in PLAN]
ACCURACY = {"search": "val-core/search/acc/mean@4", "arithmetic": "val-core/arithmetic/acc/mean@2"}
Effects = dict[tuple[str, str], float]  # (rule, metric) -> what the rule adds to it


def made_run(stage: str, rule: str, seed: int, effects: Effects | None = None, steps: int = 120) -> StudyRun:
    """A run whose seed moves all metrics as under the other rules, with noise of its own. `effects` on accuracy or on
    any metric are added late, on the spread of a metric (`entropy spread`) they multiply its noise.
    """
    effects, validations = effects or {}, np.arange(0, steps + 1, 10 if steps == 120 else 5)
    draw = np.random.default_rng([seed, crc32(f"{stage} {rule}".encode())])
    level, progress = np.random.default_rng(seed).normal(), np.arange(1, steps + 1) / steps
    gap = draw.normal(-0.4, 0.1, steps)
    noise = {metric: draw.normal(size=steps) for metric in sorted(METRICS)}
    # Halfway to the length gap, as token aggregation has it.
    share = 0.5 + gap / 4 + 0.002 * noise["aggregation/token/positive_share"]
    if stage.endswith("spread"):
        share = 0.5 + (share - share.mean())
    values = {
        "actor/entropy": 0.17 + 0.01 * noise["actor/entropy"] * effects.get((rule, "entropy spread"), 1.0),
        "actor/grad_norm": np.exp(0.1 * noise["actor/grad_norm"] * effects.get((rule, "grad_norm spread"), 1.0)),
        "aggregation/length_gap_within_group": gap,
        "aggregation/negative_length": 36 + level + 0.5 * noise["aggregation/negative_length"],
        "aggregation/token/positive_share": share,
        "aggregation/token/drift": -gap / 2 + 0.01 * noise["aggregation/token/drift"],
        "response_length/clip_ratio": np.full(steps, 0.02),
    }
    for metric in sorted(METRICS - values.keys()):
        values[metric] = 0.5 + 0.05 * noise[metric]
    for metric, found in values.items():
        found += effects.get((rule, metric), 0.0) * (progress > 0.5)
    series = {metric: dict(enumerate(map(float, found), 1)) for metric, found in values.items()}
    accuracies = 0.25 + 0.3 * (1 - np.exp(-4 * validations / steps)) + 0.01 * level
    accuracies += draw.normal(0, 0.01, len(validations)) + effects.get((rule, "accuracy"), 0.0) * (validations > 0)
    accuracies[-3:] -= effects.get((rule, "drop"), 0.0)
    series[ACCURACY[stage.partition("-")[0]]] = dict(zip(map(int, validations), map(float, accuracies), strict=True))
    series |= {"response_length/mean": {1: 30 + level}, "critic/score/mean": {1: 0.25}}
    order = 0 if seed > 100 else 3 if stage in ARITHMETIC else 1 if rule in MAIN else 2
    command = f"balanced-agg train {stage.partition('-')[0]} run.seed={seed}"
    return StudyRun(stage, rule, seed, order, command, [f"stage={stage}"], "abc1234", 250.0, True, steps, series)


def made_record(
    effects: Effects | None = None, orders: Iterable[int] = (1,), wanted: Callable = lambda key: True, plan=PLAN
) -> Record:
    """The record of the orders of the plan, but for the runs that are not wanted."""
    empty = Record(plan, {})
    keys: list[Key] = [key for entry, key in empty.planned() if entry["order"] in {*orders} and wanted(key)]
    return Record(plan, {key: made_run(*key, effects, steps=40 if key[0] in ARITHMETIC else 120) for key in keys})
