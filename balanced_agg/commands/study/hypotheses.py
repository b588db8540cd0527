"""The hypotheses of docs/study.md as tests on the recorded runs. What is decided there is not decided again here."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from math import log
from statistics import fmean, stdev
from typing import Any

from balanced_agg.commands.compare.paired import RESAMPLES, difference, holm
from balanced_agg.commands.compare.summary import of_accuracies
from balanced_agg.commands.study.record import Key, StudyRun

SEARCH = ("search-length_spread", "search-length_gap")
ARITHMETIC = ("arithmetic-length_spread", "arithmetic-length_gap")
MAIN = BALANCED, TOKEN, SEQUENCE = "balanced", "token", "sequence@equal-mass"
EXPLORATORY = ("batch_token", "batch_token@equal-mass", "dr_grpo", "dr_grpo@equal-mass")
# A stage at another learning rate than its own.
AT_RATE = re.compile(r"(?P<stage>.+)-lr-(?P<rate>\d+(\.\d+)?(e-?\d+)?)")
ALPHA, LEAST_PAIRS = 0.05, 3
MARGIN = 0.02  # of accuracy, in (d)
APART_DROP, APART_CUT = 0.05, 0.1
EARLY_STEPS = 10
# What is told of a run: label with its unit, scale, digits.
NUMBERS = {
    "average": ("average, points", 100, 2),
    "last": ("last, points", 100, 2),
    "drop": ("drop, points", 100, 2),
    "smoothed_drop": ("smoothed drop, points", 100, 2),
    "negative_length": ("late negative length, tokens", 1, 2),
    "grad_norm_spread": ("spread of log late gradient norm", 1, 3),
    "entropy_spread": ("spread of late entropy", 1, 4),
    "apart": ("runs that come apart, %", 100, 0),
    "early_cv": ("early within-group length CV", 1, 3),
    "early_gap": ("early within-group length gap", 1, 3),
    "early_share": ("early positive share", 1, 3),
    "early_share_distance": ("distance of the early positive share from .5", 1, 3),
    "share_follows_gap": ("correlation of positive share with length gap", 1, 2),
    "drift_follows_gap": ("correlation of drift with length gap", 1, 2),
}
STABILITY = ("grad_norm_spread", "smoothed_drop", "entropy_spread", "apart")
# (stage, rule) -> seed -> number -> value, None where the run does not define it
Cells = dict[tuple[str, str], dict[int, dict[str, float | None]]]
Told = dict[str, Any]  # as paired.difference has it


@dataclass
class Test:
    """One line of a hypothesis: `told` is the difference `between` what it names, `expected` its sign there.

    verdict: `seen`, `not seen`, `contrary`, or why there is none. orders: those that decide it, where they are not
    those of its hypothesis.
    """

    number: str
    stage: str
    between: str
    expected: int
    told: Told
    note: str = ""
    p_adjusted: float | None = None
    verdict: str = ""
    orders: tuple[int, ...] = ()


@dataclass
class Hypothesis:
    """`orders`: those whose runs it needs; `verdict`: of all of it, where docs/study.md has a rule for that."""

    letter: str
    claim: str
    orders: tuple[int, ...]
    tests: list[Test]
    untested: list[Test] = field(default_factory=list)
    verdict: str = ""


def numbers(run: StudyRun) -> dict[str, float | None]:
    """The numbers of one run, each None where the run does not define it. Accuracies are shares, 0 to 1.

    Early is the mean of steps 1 to 10, late that of the last quarter of the run's steps, at the steps that logged it.
    Spreads are standard deviations (n - 1) over the late steps, of the gradient norm's logarithm where it is not 0.
    """
    # Of (a), which is about the runs under `token`.
    gap = run.series.get("aggregation/length_gap_within_group", {}) if run.rule == TOKEN else {}

    def mean_over(metric: str, late: bool) -> float | None:
        chosen = late_values(run, metric) if late else early_values(run, metric)
        return fmean(chosen) if chosen else None

    accuracies = of_accuracies(run.accuracy)
    cut = mean_over("response_length/clip_ratio", True)
    early_share = mean_over("aggregation/token/positive_share", False)
    dropped = accuracies["smoothed_drop"]
    norms = [log(norm) for norm in late_values(run, "actor/grad_norm") if norm > 0]
    return {
        **{name: accuracies[name] for name in ("average", "last", "drop", "smoothed_drop")},
        "negative_length": mean_over("aggregation/negative_length", True),
        "grad_norm_spread": spread(norms),
        "entropy_spread": spread(late_values(run, "actor/entropy")),
        "apart": None if cut is None or dropped is None else float(apart(dropped, cut)),
        "early_cv": mean_over("aggregation/within_group_length_cv", False),
        "early_gap": mean_over("aggregation/length_gap_within_group", False),
        "early_share": early_share,
        "early_share_distance": None if early_share is None else abs(early_share - 0.5),
        "share_follows_gap": correlation(gap, run.series.get("aggregation/token/positive_share", {})),
        "drift_follows_gap": correlation(gap, run.series.get("aggregation/token/drift", {})),
    }


def apart(dropped: float, cut: float) -> bool:
    """Whether a run has come apart; a limit counts as reached within what float32 makes of it."""
    return round(dropped, 6) >= APART_DROP or round(cut, 6) >= APART_CUT


def early_values(run: StudyRun, metric: str) -> list[float]:
    return [value for step, value in run.series.get(metric, {}).items() if 1 <= step <= EARLY_STEPS]


def late_values(run: StudyRun, metric: str) -> list[float]:
    return [value for step, value in run.series.get(metric, {}).items() if step > run.steps * 3 / 4]


def spread(values: Sequence[float]) -> float | None:
    return stdev(values) if len(values) > 1 else None


def correlation(a: dict[int, float], b: dict[int, float]) -> float | None:
    """Spearman's, over the steps of both; None for fewer than three, or where one does not change."""
    import numpy as np
    from scipy.stats import rankdata

    steps = sorted(a.keys() & b.keys())
    first, second = [a[step] for step in steps], [b[step] for step in steps]
    if len(steps) < 3 or len({*first}) == 1 or len({*second}) == 1:
        return None
    return float(np.corrcoef(rankdata(first), rankdata(second))[0, 1])


def cells_of(runs: Iterable[StudyRun]) -> Cells:
    """The numbers of the runs that have finished."""
    cells: Cells = {}
    for run in runs:
        if run.finished:
            cells.setdefault((run.stage, run.rule), {})[run.seed] = numbers(run)
    return cells


def at_own_rates(runs: dict[Key, StudyRun]) -> dict[Key, StudyRun] | None:
    """The runs with those of a stage STAGE-lr-RATE of order 1 in place of STAGE's; None where there are none."""
    own = {}
    for (stage, rule, seed), run in runs.items():
        if run.order == 1 and (at_rate := AT_RATE.fullmatch(stage)):
            own[at_rate["stage"], rule, seed] = replace(run, stage=at_rate["stage"])
    replaced = {key[:2] for key in own}
    return own | {key: run for key, run in runs.items() if key[:2] not in replaced} if own else None


def values(cells: Cells, stage: str, rule: str, number: str) -> dict[int, float]:
    found = cells.get((stage, rule), {})
    return {seed: told[number] for seed, told in found.items() if told[number] is not None}


def paired_test(cells: Cells, stage: str, number: str, rule: str, base: str, expected: int) -> Test:
    """`rule` - `base` at the seeds of both; of `apart`, the difference of shares with the exact McNemar test."""
    ours, others = values(cells, stage, rule, number), values(cells, stage, base, number)
    told, note = difference(ours, others), unpaired({rule: ours, base: others})
    if number == "apart" and told["pairs"]:
        told |= mcnemar(ours, others)
        alone = f"{told['ours_alone']} of {rule} alone, {told['others_alone']} of {base} alone"
        note = "; ".join(filter(None, (alone, note)))
    return Test(number, stage, f"{rule} − {base}", expected, told, note)


def unpaired(by_rule: dict[str, dict[int, float]]) -> str:
    """Which rules lack seeds that another one has."""
    seeds = set().union(*by_rule.values())
    lacking = {rule: sorted(seeds - found.keys()) for rule, found in by_rule.items()}
    return "; ".join(f"{rule} lacks {', '.join(map(str, lacks))}" for rule, lacks in lacking.items() if lacks)


def mcnemar(ours: dict[int, float], others: dict[int, float]) -> Told:
    """The exact test over the seeds of both: of those where one alone came apart, half are ours by chance."""
    from scipy.stats import binomtest

    seeds = ours.keys() & others.keys()
    a = sum(ours[seed] > others[seed] for seed in seeds)
    b = sum(ours[seed] < others[seed] for seed in seeds)
    p = float(binomtest(a, a + b).pvalue) if a + b else None
    return {"half_width": None, "bootstrap": None, "p": p, "ours_alone": a, "others_alone": b}


def welch(a: dict[int, float], b: dict[int, float]) -> Told:
    """Mean of a - mean of b, of seeds that are no pairs; `pairs` is the smaller number of seeds."""
    import numpy as np
    from scipy.stats import bootstrap, ttest_ind

    told: Told = {"pairs": min(len(a), len(b)), "mean": None, "half_width": None, "bootstrap": None, "p": None}
    if not told["pairs"]:
        return told
    samples = [[each[seed] for seed in sorted(each)] for each in (a, b)]
    told["mean"] = fmean(samples[0]) - fmean(samples[1])
    if min(map(len, samples)) < 2 or all(len({*sample}) == 1 for sample in samples):
        return told
    tested = ttest_ind(*samples, equal_var=False)
    drawn = bootstrap(
        samples,
        lambda first, second, axis: np.mean(first, axis) - np.mean(second, axis),
        n_resamples=RESAMPLES,
        rng=np.random.default_rng(0),
    ).confidence_interval
    return told | {
        "half_width": float(tested.confidence_interval(0.95).high - told["mean"]),
        "bootstrap": [float(drawn.low), float(drawn.high)],
        "p": float(tested.pvalue),
    }


def judged(tests: list[Test]) -> list[Test]:
    """The tests with Holm's p over all of them, those not made yet counted as p = 1, and their verdicts."""
    for test, adjusted in zip(tests, holm([1.0 if t.told["p"] is None else t.told["p"] for t in tests]), strict=True):
        pairs, mean = test.told["pairs"], test.told["mean"]
        test.p_adjusted = None if test.told["p"] is None else adjusted
        if pairs < LEAST_PAIRS:
            test.verdict = f"{pairs} pairs: too few"
        elif test.told["p"] is None and mean:
            test.verdict = "no test: all differences are equal"
        elif adjusted >= ALPHA:
            test.verdict = "not seen"
        else:
            test.verdict = "seen" if mean * test.expected > 0 else "contrary"
    return tests


def hypotheses(cells: Cells, token: str = TOKEN) -> list[Hypothesis]:
    """(a) to (e), or, with another rule in place of `token`, (b), (d) and (e) once more, as families of their own."""
    letters: list[Callable[[Cells, str], Hypothesis]] = [negative_lengths, never_far, stability]
    if token == TOKEN:
        letters = [instrument, negative_lengths, interaction, never_far, stability]
    return [make(cells, token) for make in letters]


def instrument(cells: Cells, token: str) -> Hypothesis:
    spread_stage, gap_stage = SEARCH
    tests = []
    for number, expected in (("share_follows_gap", 1), ("drift_follows_gap", -1)):
        for stage in SEARCH:
            found = values(cells, stage, token, number)
            tests.append(Test(number, stage, f"{token} − 0", expected, difference(found, dict.fromkeys(found, 0.0))))
    shares = values(cells, gap_stage, token, "early_share")
    told = difference(shares, dict.fromkeys(shares, 0.5))
    tests.append(Test("early_share", gap_stage, f"{token} − .5", -1, told))
    distances = [values(cells, stage, token, "early_share_distance") for stage in (gap_stage, spread_stage)]
    tests.append(Test("early_share_distance", "search", f"{token}, length_gap − length_spread", 1, welch(*distances)))
    return Hypothesis("a", "Token aggregation follows the length gap", (1,), judged(tests))


def negative_lengths(cells: Cells, token: str) -> Hypothesis:
    tests = [
        paired_test(cells, stage, "negative_length", SEQUENCE, base, 1)
        for stage in SEARCH
        for base in (BALANCED, token)
    ]
    for test in tests:
        if test.told["half_width"] is not None and test.told["mean"] + test.told["half_width"] < 1:
            test.note = "; ".join(filter(None, ("the interval ends below 1 token", test.note)))
    return Hypothesis("b", "Sequence aggregation lets wrong responses grow longer", orders(token, 1), judged(tests))


def interaction(cells: Cells, token: str) -> Hypothesis:
    tests, beside = [], []
    for recipe, stages, order in (("search", SEARCH, 1), ("arithmetic", ARITHMETIC, 3)):
        differences, notes = [], []
        for stage in stages:
            ours, others = (values(cells, stage, rule, "average") for rule in (token, SEQUENCE))
            differences.append({seed: ours[seed] - others[seed] for seed in ours.keys() & others.keys()})
            lacking = unpaired({token: ours, SEQUENCE: others})
            notes += [f"{stage}: {lacking}"] if lacking else []
            for number in ("early_cv", "early_gap"):
                found = {(rule, seed): v for rule in MAIN for seed, v in values(cells, stage, rule, number).items()}
                beside.append(Test(number, stage, "mean of three rules", 0, mean_by_seed(found)))
        between = f"({token} − {SEQUENCE}) in length_spread − in length_gap"
        told = welch(*differences)
        tests.append(Test("average", recipe, between, 1, told, "; ".join(notes), orders=(order,)))
    return Hypothesis("c", "Which of token and sequence wins depends on the regime", (1, 3), judged(tests), beside)


def mean_by_seed(found: dict[tuple[str, int], float]) -> Told:
    seeds = {seed for _, seed in found}
    means = {seed: fmean(value for (_, other), value in found.items() if other == seed) for seed in seeds}
    return difference(means, dict.fromkeys(means, 0.0))


def never_far(cells: Cells, token: str) -> Hypothesis:
    """Seen by its own rule: all eight 95 % intervals of the difference are above -MARGIN; contrary: one is below."""
    tests = [
        paired_test(cells, stage, "average", BALANCED, base, 1)
        for stage in (*SEARCH, *ARITHMETIC)
        for base in (token, SEQUENCE)
    ]
    for test in tests:
        told = test.told
        told["p"] = None  # the interval decides
        if told["pairs"] < LEAST_PAIRS:
            test.verdict = f"{told['pairs']} pairs: too few"
            continue
        half_width = told["half_width"] or 0.0
        above, below = told["mean"] - half_width > -MARGIN, told["mean"] + half_width < -MARGIN
        test.verdict = "above −2 points" if above else "below −2 points" if below else "contains −2 points"
    verdicts = [test.verdict for test in tests]
    if "below −2 points" in verdicts:
        verdict = "contrary"
    elif any("too few" in each for each in verdicts):
        verdict = f"open: {sum('too few' not in each for each in verdicts)} of {len(tests)} intervals"
    else:
        verdict = "seen" if {*verdicts} == {"above −2 points"} else "not seen"
    claim = "Balanced is never far from the better of the two"
    return Hypothesis("d", claim, orders(token, 1, 3), tests, verdict=verdict)


def stability(cells: Cells, token: str) -> Hypothesis:
    def compared(number: str, expected: int) -> list[Test]:
        return [
            paired_test(cells, stage, number, BALANCED, base, expected)
            for stage in SEARCH
            for base in (token, SEQUENCE)
        ]

    tests = [test for number in STABILITY for test in compared(number, -1)]
    return Hypothesis("e", "Balanced is more stable", orders(token, 1), judged(tests), compared("drop", 0))


def orders(token: str, *needed: int) -> tuple[int, ...]:
    """The orders whose runs are needed, and order 2 for a rule in place of `token`."""
    return needed if token == TOKEN else tuple(sorted({*needed, 2}))


def worst_regrets(cells: Cells, token: str = TOKEN) -> dict[str, Any]:
    """{stages: stage -> rule -> regret, worst: rule -> (worst regret, low, high)} of the three rules.

    Of a stage the seeds that all three have count. low and high: the 95 % percentile interval of resampled seeds, those
    of one seed drawn together. Empty where no stage has such seeds.
    """
    import numpy as np

    rules, draw, stages, drawn = (BALANCED, token, SEQUENCE), np.random.default_rng(0), {}, []
    for stage in (*SEARCH, *ARITHMETIC):
        found = [values(cells, stage, rule, "average") for rule in rules]
        seeds = sorted(set.intersection(*map(set, found)))
        if not seeds:
            continue
        averages = np.array([[each[seed] for seed in seeds] for each in found])
        means = averages.mean(1)
        stages[stage] = dict(zip(rules, map(float, means.max() - means), strict=True))
        resampled = averages[:, draw.integers(len(seeds), size=(RESAMPLES, len(seeds)))].mean(2)
        drawn.append(resampled.max(0) - resampled)
    if not stages:
        return {"stages": {}, "worst": {}}
    low, high = np.percentile(np.max(drawn, 0), (2.5, 97.5), axis=1)
    worst = {rule: max(regrets[rule] for regrets in stages.values()) for rule in rules}
    return {
        "stages": stages,
        "worst": {rule: (worst[rule], float(low[i]), float(high[i])) for i, rule in enumerate(rules)},
    }
