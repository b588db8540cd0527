"""The results of one evaluation: as data, as rows of text, and as Markdown."""

from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np

from balanced_agg.commands.evaluate.samples import Benchmark
from balanced_agg.commands.evaluate.statistics import Estimate, estimate, mean_of, pass_at
from balanced_agg.untrusted import shown

HEADER = ("benchmark", "problems", "k", "mean@k", "pass@k", "tokens", "truncated")
MEAN = "mean"
CAPTION = (
    "Percent and tokens, with 95 % bootstrap intervals over problems. k: responses to each problem; tokens: mean "
    "response length; truncated: responses that ran into the length limit."
)


def summarize(benchmarks: Sequence[Benchmark]) -> dict[str, Any]:
    """Everything that is reported, ready for JSON. Shares are 0 to 1, lengths in tokens.

    Keys of a benchmark: problems, k, missing and defaulted (responses that never came, or whose score did not; counted
    as wrong); and, each with value, low and high (95 % bootstrap interval over problems) or None where no response has
    a score: mean@k, pass@j for j = 1, 2, 4, … and k (None, too, where some score is neither 0 nor 1), response_tokens
    (mean), truncated and grader_failed (shares of the responses that have a score). Under "mean" stands the unweighted
    mean of the benchmarks, where there are several.
    """
    rows, at_k = {}, {"mean@k": [], "pass@k": []}
    for benchmark in benchmarks:
        k, ones = benchmark.k, np.ones_like(benchmark.right)
        powers = [1 << power for power in range(k.bit_length()) if 1 << power < k]
        at_k["mean@k"].append(benchmark.right / k)
        passes = dict.fromkeys([*powers, k])
        if benchmark.binary:
            passes = {j: np.array([pass_at(j, k, int(right)) for right in benchmark.right]) for j in passes}
            at_k["pass@k"].append(passes[k])
        rows[benchmark.name] = {
            "problems": len(benchmark.right),
            "k": k,
            "missing": int(k * len(benchmark.right) - benchmark.came.sum() - benchmark.defaulted.sum()),
            "defaulted": int(benchmark.defaulted.sum()),
            "mean@k": estimate(benchmark.right / k, ones),
            **{f"pass@{j}": None if scores is None else estimate(scores, ones) for j, scores in passes.items()},
            "response_tokens": estimate(benchmark.tokens, benchmark.came),
            "truncated": estimate(benchmark.truncated, benchmark.came),
            "grader_failed": estimate(benchmark.grader_failed, benchmark.came),
        }
    if len(benchmarks) < 2:
        return {"benchmarks": rows}
    mean = {name: mean_of(scores) if len(scores) == len(benchmarks) else None for name, scores in at_k.items()}
    return {"benchmarks": rows, MEAN: mean}


def cells(summary: dict[str, Any]) -> list[tuple[str, ...]]:
    """One row of text per benchmark, and one for their mean."""
    rows = []
    for name, row in summary["benchmarks"].items():
        scores = (written(row[key], 100, 1) for key in ("mean@k", f"pass@{row['k']}"))
        lengths = written(row["response_tokens"], 1, 0), written(row["truncated"], 100, 1)
        rows.append((name, str(row["problems"]), str(row["k"]), *scores, *lengths))
    if MEAN in summary:
        rows.append((MEAN, "", "", *(written(summary[MEAN][key], 100, 1) for key in ("mean@k", "pass@k")), "", ""))
    return rows


def written(found: Estimate | None, scale: int, digits: int) -> str:
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
        if row["defaulted"]:
            lines.append(f"{name}: {row['defaulted']} responses have no score; they count as wrong, and in no length.")
        if row["mean@k"] and not row[f"pass@{row['k']}"]:
            lines.append(f"{name}: some scores are neither 0 nor 1, so that there is no pass@k.")
        if row["grader_failed"] and row["grader_failed"]["value"]:
            share = row["grader_failed"]["value"]
            lines.append(f"{name}: {share:.1%} of the responses broke the grader; they count as wrong.")
    return lines


def markdown(summary: dict[str, Any], title: str) -> str:
    rows = [HEADER, ["---"] * len(HEADER), *cells(summary)]
    table = [f"| {' | '.join(text(cell).replace('|', '&#124;') for cell in row)} |" for row in rows]
    lines = [f"# {text(title)}", "", *table, "", CAPTION, *(f"\n{text(remark)}" for remark in remarks(summary))]
    return "\n".join(lines) + "\n"


def text(value: str) -> str:
    """As a line of Markdown that has no HTML."""
    return escape(shown(value), quote=False)
