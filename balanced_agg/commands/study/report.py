"""The report of a study, made of its record alone: report.md and its pictures."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import product
from math import isclose
from pathlib import Path
from statistics import fmean, median

from balanced_agg.atomic_write import atomic_write
from balanced_agg.commands.compare.paired import detectable
from balanced_agg.commands.compare.summary import over_seeds
from balanced_agg.commands.compare.table import written
from balanced_agg.commands.study.hypotheses import (
    ARITHMETIC,
    AT_RATE,
    BALANCED,
    EXPLORATORY,
    MAIN,
    NUMBERS,
    SEARCH,
    STABILITY,
    TOKEN,
    Cells,
    Hypothesis,
    Test,
    at_own_rates,
    cells_of,
    hypotheses,
    paired_test,
    values,
    worst_regrets,
)
from balanced_agg.commands.study.pictures import pictures
from balanced_agg.commands.study.record import FIRST_BATCH, Record, StudyRun

SCALED_TOKEN = "token@equal-mass"
RATES = (0, 4)  # the orders that choose a learning rate: of search, of the language model
AROUND = 10  # steps before and after the highest smoothed validation of a run that comes apart
DESCRIBED = {
    "actor/grad_norm": 3,
    "aggregation/clipped_steps": 2,
    "aggregation/step_positive_share_min": 2,
    "aggregation/step_positive_share_max": 2,
    "actor/entropy": 3,
    "actor/pg_clipfrac": 3,
}


def write_report(record: Record, folder: Path) -> list[str]:
    """Write the report beside the record; the names of its files."""
    found = files(record)
    for name, content in found.items():
        with atomic_write(folder / name) as temporary:
            temporary.write_bytes(content)
    return list(found)


def files(record: Record) -> dict[str, bytes]:
    """File name -> content, of the report and its pictures."""
    drawn = pictures(record.of_complete_orders())
    return {"report.md": report(record, list(drawn)).encode()} | drawn


def report(record: Record, drawn: Sequence[str]) -> str:
    """The text, the same for the same record. `drawn`: names of the pictures beside it.

    Of an order that is not complete it counts the runs and tells none of their numbers, so that nobody stops, lengthens
    or chooses by them.
    """
    complete = record.of_complete_orders()
    cells = cells_of(complete.runs.values())
    told = hypotheses(cells)
    parts = [
        "# Does the rule matter? What the runs show",
        "Written by `balanced-agg study` from `runs.json` and `metrics.parquet` beside it. The plan, with what each "
        "number and verdict means, is [study.md](../study.md).",
        *status(record),
        table(("hypothesis", "verdict"), ((title(each), summary(record, each)) for each in told)),
        *(f"![{name.removesuffix('.png').replace('-', ' ')}]({name})" for name in drawn),
        "Bands and bars are 95 % intervals of the mean over seeds." if drawn else "There is no picture of them yet.",
        "## Runs",
        *runs(record),
        *(part for order in RATES for part in learning_rates(complete, order)),
        *(["## Means", means(cells)] if cells else []),
        "## Hypotheses",
        "± and the bootstrap: 95 % intervals. Adjusted p: Holm's over the tests of a hypothesis, those not made yet "
        "counted as p = 1.",
        *sections(record, told, regrets(cells, TOKEN)),
        "## Runs that came apart",
        *came_apart(complete, cells),
        "## Scale or balance",
    ]
    if any(rule == SCALED_TOKEN for _, rule in cells):
        parts += [
            f"(b), (d) and (e) with `{SCALED_TOKEN}` in place of `{TOKEN}`.",
            *sections(record, hypotheses(cells, SCALED_TOKEN), regrets(cells, SCALED_TOKEN)),
        ]
    else:
        parts.append(f"No order with `{SCALED_TOKEN}` is complete.")
    parts += exploratory(cells)
    parts += other_stages(cells)
    if own := at_own_rates(complete.runs):
        of_own = cells_of(own.values())
        again = [each for each in hypotheses(of_own) if each.letter != "a"]
        parts += ["## With each rule at its own best learning rate", *sections(record, again, regrets(of_own, TOKEN))]
    return "\n\n".join(parts) + "\n"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cell or ' ' for cell in line)} |" for line in lines)


def status(record: Record) -> Iterator[str]:
    """What has run of each order, and that none of its numbers is told before all of it has."""
    for order in sorted({entry["order"] for entry in record.plan}):
        keys = [key for entry, key in record.planned() if entry["order"] == order]
        done = sum(key in record.runs and record.runs[key].finished for key in keys)
        if record.complete(order):
            yield f"Order {order} is complete: {len(keys)} runs."
        elif done:
            yield f"**Order {order} is not complete: {done} of {len(keys)} runs. Its numbers are told when it is.**"
        else:
            yield f"Order {order} has not been run: 0 of {len(keys)} runs."


def runs(record: Record) -> Iterator[str]:
    rows = []
    for entry in record.plan:
        keys = [key for planned, key in record.planned() if planned is entry]
        known = [record.runs[key] for key in keys if key in record.runs]
        finished = [run for run in known if run.finished]
        lacking = [key for key in keys if key not in {run.key for run in finished}]
        by_rule = {rule: [str(seed) for _, other, seed in lacking if other == rule] for rule in entry["aggregations"]}
        missing = [
            f"{rule} {'all' if len(s) == len(entry['seeds']) else ', '.join(s)}" for rule, s in by_rule.items() if s
        ]
        whole = f"all of {len(keys)}" if len(lacking) == len(keys) else "; ".join(missing)
        started = {" ".join(run.overrides) for run in known} or {" ".join(entry["overrides"])}
        hours = f"{sum(run.seconds or 0 for run in known) / 3600:.2f}"
        counts = (f"{len(finished)} of {len(keys)}", hours if known else "-")
        rows.append((str(entry["order"]), entry["stage"], " and ".join(sorted(started)), *counts, whole))
    yield table(("order", "stage", "overrides", "finished runs", "hours", "missing seeds"), rows)
    if not record.runs:
        return
    total = sum(run.seconds or 0 for run in record.runs.values())
    unknown = sum(run.seconds is None for run in record.runs.values())
    commits = Counter(run.commit or "unknown" for run in record.runs.values())
    said = ", ".join(f"`{commit}` ({count} runs)" for commit, count in sorted(commits.items()))
    yield (
        f"{len(record.runs)} runs are recorded, {total / 3600:.2f} hours together"
        f"{f', {unknown} of them without their seconds' if unknown else ''}. Commits: {said}."
    )
    yield f"The command of one: `{record.runs[min(record.runs)].command}`."
    yield first_batches(record)


def first_batches(record: Record) -> str:
    """Whether, by stage, runs of one seed have the same first batch under all rules."""
    batches: dict[tuple[str, int], list[list[float | None]]] = {}
    for run in record.runs.values():
        found = [run.series.get(metric, {}).get(1) for metric in FIRST_BATCH]
        batches.setdefault((run.stage, run.seed), []).append(found)
    told = []
    for stage in sorted({stage for stage, _ in batches}):
        several = {seed: found for (other, seed), found in batches.items() if other == stage and len(found) > 1}
        apart = [
            str(seed) for seed, found in sorted(several.items()) if not all(agree(found[0], other) for other in found)
        ]
        if several:
            few = "none" if len(apart) == len(several) else f"all but {', '.join(apart)}"
            whole = few if apart else "all"
            told.append(f"{stage}: {whole} of {len(several)} seeds")
    listed = "; ".join(told) or "there are no two rules of one seed"
    return f"Where the rules have the same first batch (`{'`, `'.join(FIRST_BATCH)}` of step 1), by stage: {listed}."


def agree(a: Sequence[float | None], b: Sequence[float | None]) -> bool:
    return None not in a and None not in b and all(isclose(x, y, rel_tol=1e-5) for x, y in zip(a, b, strict=True))


def learning_rates(record: Record, order: int) -> Iterator[str]:
    """The mean `average` by rate and rule over regimes and seeds of an order."""
    found: dict[str, dict[str, list[float]]] = {}
    for (stage, rule), by_seed in cells_of(run for run in record.runs.values() if run.order == order).items():
        averages = [told["average"] for told in by_seed.values() if told["average"] is not None]
        if averages and (at_rate := AT_RATE.fullmatch(stage)):
            found.setdefault(at_rate["rate"], {}).setdefault(rule, []).extend(averages)
    if not found:
        return
    rules = [rule for rule in MAIN if any(rule in by_rule for by_rule in found.values())]
    by_rate = {rate: {rule: fmean(of) for rule, of in by_rule.items()} for rate, by_rule in found.items()}
    rows, overall = [], {rate: fmean(by_rule.values()) for rate, by_rule in by_rate.items()}
    for rate in sorted(overall, key=float):
        cells = [f"{100 * by_rate[rate][rule]:.2f}" if rule in by_rate[rate] else "-" for rule in rules]
        rows.append((rate, *cells, f"{100 * overall[rate]:.2f}", str(sum(map(len, found[rate].values())))))
    own = (f"{rule} {max(by_rate, key=lambda rate, rule=rule: by_rate[rate].get(rule, -1))}" for rule in rules)
    yield f"## Learning rate, order {order}"
    yield (
        f"`average` in %, mean over regimes and seeds. Highest at {max(overall, key=overall.get)}; of each rule at: "
        f"{', '.join(own)}."
    )
    yield table(("rate", *rules, "mean of rules", "runs"), rows)


def title(hypothesis: Hypothesis) -> str:
    return f"({hypothesis.letter}) {hypothesis.claim}"


def summary(record: Record, hypothesis: Hypothesis) -> str:
    """The verdict of a hypothesis that has one of its own, else how many of its tests have which."""
    counts = Counter(test.verdict for test in hypothesis.tests)
    several = ", ".join(f"{verdict} in {count} of {len(hypothesis.tests)}" for verdict, count in sorted(counts.items()))
    return (hypothesis.verdict or several) + unless_final(record, hypothesis.orders)


def unless_final(record: Record, orders: Sequence[int]) -> str:
    return "" if record.complete(*orders) else " (not final)"


def sections(record: Record, found: Sequence[Hypothesis], regretted: Iterator[str]) -> Iterator[str]:
    """A section a hypothesis of which a test has pairs; `regretted`: what stands below (d)."""
    header = ("number", "stage", "difference", "expected", "pairs", "effect", "bootstrap", "p", "adjusted p")
    for hypothesis in found:
        if not any(test.told["pairs"] for test in hypothesis.tests):
            continue
        rows = []
        for test in hypothesis.tests:
            final = unless_final(record, test.orders or hypothesis.orders)
            rows.append((*row(test), test.verdict + final, test.note))
        yield f"### {title(hypothesis)}"
        yield f"**{summary(record, hypothesis)}**"
        yield table((*header, "verdict", "note"), rows)
        if hypothesis.untested:
            yield "Beside them, without a test:"
            cells = (row(test) for test in hypothesis.untested)
            yield table((*header[:3], *header[4:7]), ((*cell[:3], *cell[4:7]) for cell in cells))
        if hypothesis.letter == "d":
            yield from regretted


def row(test: Test) -> tuple[str, ...]:
    label, scale, digits = NUMBERS[test.number]
    told = test.told
    interval = (
        "-" if told["bootstrap"] is None else " to ".join(f"{scale * end:.{digits}f}" for end in told["bootstrap"])
    )
    shown = ("-" if p is None else f"{p:.4f}" if p >= 1e-4 else "<.0001" for p in (told["p"], test.p_adjusted))
    sign = {1: "> 0", -1: "< 0", 0: ""}[test.expected]
    return (label, test.stage, test.between, sign, str(told["pairs"]), written(told, scale, digits), interval, *shown)


def regrets(cells: Cells, token: str) -> Iterator[str]:
    found = worst_regrets(cells, token)
    if not found["stages"]:
        return
    stages = list(found["stages"])
    rows = []
    for rule, (worst, low, high) in found["worst"].items():
        by_stage = [f"{100 * found['stages'][stage][rule]:.2f}" for stage in stages]
        rows.append((rule, *by_stage, f"{100 * worst:.2f}", f"{100 * low:.2f} to {100 * high:.2f}"))
    yield f"Regret in points, at the seeds that all three rules have; the worst is that over {len(stages)} of 4 stages."
    yield table(("rule", *stages, "worst", "95 %, seeds resampled"), rows)


def means(cells: Cells) -> str:
    """Of each stage and rule the mean over its seeds, each by itself, and which seeds came apart."""
    shown = ("average", "last", "drop", "smoothed_drop", "negative_length")
    rows = []
    for (stage, rule), by_seed in sorted(cells.items()):
        told = [over_seeds(values(cells, stage, rule, number)) for number in shown]
        written_out = [written(each, *NUMBERS[number][1:]) for number, each in zip(shown, told, strict=True)]
        apart = [str(seed) for seed in sorted(by_seed) if by_seed[seed]["apart"]]
        rows.append((stage, rule, str(len(by_seed)), *written_out, ", ".join(apart)))
    return table(("stage", "rule", "runs", *(NUMBERS[number][0] for number in shown), "seeds that came apart"), rows)


def came_apart(record: Record, cells: Cells) -> Iterator[str]:
    apart = [(*cell, seed) for cell, by_seed in cells.items() for seed, told in by_seed.items() if told["apart"]]
    yield f"{len(apart)} runs, around their highest three validations in a row." if apart else "None."
    for key in sorted(apart):
        run = record.runs[key]
        peers = [record.runs[(*key[:2], seed)] for seed in cells[key[:2]] if seed != run.seed]
        yield f"`{run.stage}`, `{run.rule}`, seed {run.seed}; in brackets the median of the other {len(peers)} seeds:"
        yield table(("step", *DESCRIBED), around_the_peak(run, peers))


def around_the_peak(run: StudyRun, peers: Sequence[StudyRun]) -> Iterator[tuple[str, ...]]:
    """The ten steps before the validation in the middle of the highest three in a row, and the ten after."""
    steps = sorted(run.accuracy)
    triples = [steps[i : i + 3] for i in range(len(steps) - 2)]
    peak = max(triples, key=lambda triple: fmean(run.accuracy[step] for step in triple))[1]
    for step in range(max(1, peak - AROUND), min(run.steps, peak + AROUND) + 1):
        if step == peak:
            continue
        cells = []
        for metric, digits in DESCRIBED.items():
            own = run.series.get(metric, {}).get(step)
            others = [peer.series[metric][step] for peer in peers if step in peer.series.get(metric, {})]
            usual = f" ({median(others):.{digits}f})" if others else ""
            cells.append(("-" if own is None else f"{own:.{digits}f}") + usual)
        yield str(step), *cells


def exploratory(cells: Cells) -> Iterator[str]:
    """The other rules against balanced on the numbers of (b), (d) and (e), with intervals."""
    numbers = ("average", "negative_length", *STABILITY)
    rows = []
    for rule, stage in product(EXPLORATORY, (*SEARCH, *ARITHMETIC)):
        if (stage, rule) not in cells:
            continue
        told = {number: paired_test(cells, stage, number, rule, BALANCED, 0).told for number in numbers}
        shown = {number: written(each, *NUMBERS[number][1:]) for number, each in told.items()}
        if rule == "dr_grpo":
            shown["entropy_spread"] = ""  # in another unit
        if stage in ARITHMETIC:  # (b) and (e) are about search
            shown = dict.fromkeys(numbers, "") | {"average": shown["average"]}
        rows.append((rule, stage, str(told["average"]["pairs"]), *shown.values()))
    if rows:
        yield "## Exploratory: other rules minus `balanced`"
        yield table(("rule", "stage", "pairs", *(NUMBERS[number][0] for number in numbers)), rows)


def other_stages(cells: Cells) -> Iterator[str]:
    """What no hypothesis is about, such as the language model: the other rules minus balanced, and with which power."""
    rows = []
    for stage, rule in sorted(cells):
        if stage in (*SEARCH, *ARITHMETIC) or AT_RATE.fullmatch(stage) or rule == BALANCED:
            continue
        for number in ("average", "last", "negative_length"):
            label, scale, digits = NUMBERS[number]
            told = paired_test(cells, stage, number, rule, BALANCED, 0).told
            seen = detectable(told)
            cell = "-" if seen is None else f"{scale * seen:.{digits}f}"
            rows.append((stage, rule, label, str(told["pairs"]), written(told, scale, digits), cell))
    if rows:
        yield "## Other stages: the rules minus `balanced`"
        yield (
            "Visible: the true difference that a paired t-test at .05 sees in four studies of five, if seeds vary as "
            "they do here."
        )
        yield table(("stage", "rule", "number", "pairs", "difference", "visible"), rows)
