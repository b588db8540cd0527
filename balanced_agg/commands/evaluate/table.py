"""The results of one evaluation: as data, as rows of text, and as Markdown."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from balanced_agg.commands.evaluate.samples import Benchmark
from balanced_agg.commands.evaluate.statistics import (
    estimate,
    estimate_over_responses,
    mean_at_k,
    mean_of,
    pass_at_k,
)

HEADER = ("benchmark", "problems", "k", "mean@k", "pass@k", "tokens", "truncated")
MEAN = "mean"
CAPTION = (
    "Percent and tokens, with 95 % bootstrap intervals over problems. k: responses to each problem; tokens: mean "
    "response length; truncated: responses that ran into the length limit."
)


def summarize(benchmarks: Sequence[Benchmark]) -> dict[str, Any]:
    """Everything that is reported, ready for JSON. Shares are 0 to 1, lengths in tokens.

    Keys of a benchmark: problems, k, missing (responses that never came, counted as wrong); and, each with value, low
    and high (95 % bootstrap interval over problems) or None where no response came: mean@k, pass@j for j = 1, 2, 4, …
    and k, response_tokens (mean), truncated and grader_failed (shares of the responses that came). Under "mean" stands
    the unweighted mean of the benchmarks, where there are several.
    """
    rows = {}
    for benchmark in benchmarks:
        k = benchmark.responses
        passes = [1 << power for power in range(k.bit_length()) if 1 << power < k] + [k]
        estimates = {
            "mean@k": estimate(mean_at_k(benchmark.accuracy)),
            **{f"pass@{j}": estimate(pass_at_k(benchmark.accuracy, j)) for j in passes},
            "response_tokens": estimate_over_responses(benchmark.tokens),
            "truncated": estimate_over_responses(benchmark.truncated),
            "grader_failed": estimate_over_responses(benchmark.grader_failed),
        }
        rows[benchmark.name] = {
            "problems": len(benchmark.accuracy),
            "k": k,
            "missing": benchmark.missing,
            **{name: asdict(found) if found else None for name, found in estimates.items()},
        }
    summary: dict[str, Any] = {"benchmarks": rows}
    if len(benchmarks) > 1:
        summary[MEAN] = {
            "mean@k": asdict(mean_of([mean_at_k(b.accuracy) for b in benchmarks])),
            "pass@k": asdict(mean_of([pass_at_k(b.accuracy, b.responses) for b in benchmarks])),
        }
    return summary


def cells(summary: dict[str, Any]) -> list[tuple[str, ...]]:
    """One row of text per benchmark, and one for their mean."""

    def percent(found: dict[str, float] | None) -> str:
        return written(found, 100, 1)

    rows = [
        (
            name,
            str(row["problems"]),
            str(row["k"]),
            percent(row["mean@k"]),
            percent(row[f"pass@{row['k']}"]),
            written(row["response_tokens"], 1, 0),
            percent(row["truncated"]),
        )
        for name, row in summary["benchmarks"].items()
    ]
    if MEAN in summary:
        rows.append((MEAN, "", "", percent(summary[MEAN]["mean@k"]), percent(summary[MEAN]["pass@k"]), "", ""))
    return rows


def written(found: dict[str, float] | None, scale: int, digits: int) -> str:
    if found is None:
        return "-"
    value, low, high = (f"{scale * found[key]:.{digits}f}" for key in ("value", "low", "high"))
    return f"{value} [{low}–{high}]"  # one space, so that a narrow terminal breaks the line there


def remarks(summary: dict[str, Any]) -> list[str]:
    """What a reader must know before trusting the table: scores that stand for no judgement."""
    lines = []
    for name, row in summary["benchmarks"].items():
        if row["missing"]:
            lines.append(f"{name}: {row['missing']} responses never came; they count as wrong.")
        if row["grader_failed"] and row["grader_failed"]["value"]:
            share = row["grader_failed"]["value"]
            lines.append(f"{name}: {share:.1%} of the responses broke the grader; they count as wrong.")
    return lines


def markdown(summary: dict[str, Any], title: str) -> str:
    rows = [HEADER, ["---"] * len(HEADER), *cells(summary)]
    table = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([f"# {title}", "", *table, "", CAPTION, *(f"\n{remark}" for remark in remarks(summary))]) + "\n"
