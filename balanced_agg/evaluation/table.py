"""The results of one evaluation: as data, as Markdown, and on a terminal."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.table import Table

from balanced_agg.evaluation.samples import Benchmark
from balanced_agg.evaluation.statistics import Estimate, estimate, mean_at_k, mean_of, pass_at_k

HEADER = ("benchmark", "rows", "k", "mean@k", "pass@k", "tokens", "truncated")
MEAN = "mean"
CAPTION = (
    "Percent, with 95 % bootstrap intervals over problems; rows: problems; k: responses to each; tokens: mean response "
    "length; truncated: ran into the length limit."
)


def summarize(benchmarks: Sequence[Benchmark]) -> dict[str, Any]:
    """Everything that is reported, ready for JSON. Shares are 0 to 1, lengths in tokens.

    Keys of a benchmark: problems, k, mean@k, and pass@j for j = 1, 2, 4, … and k, each with value, low and high (95 %
    bootstrap interval over problems); response_tokens (mean), truncated and grader_failed (shares of the responses
    that came), missing (responses that never came, counted as wrong). Under "mean" stands the unweighted mean of the
    benchmarks, where there are several.
    """
    rows = {}
    for benchmark in benchmarks:
        k = benchmark.responses
        passes = [1 << power for power in range(k.bit_length()) if 1 << power < k] + [k]
        rows[benchmark.name] = {
            "problems": len(benchmark.accuracy),
            "k": k,
            "mean@k": asdict(estimate(mean_at_k(benchmark.accuracy))),
            **{f"pass@{j}": asdict(estimate(pass_at_k(benchmark.accuracy, j))) for j in passes},
            "response_tokens": mean_or_none(benchmark.tokens),
            "truncated": mean_or_none(benchmark.truncated),
            "grader_failed": mean_or_none(benchmark.grader_failed),
            "missing": benchmark.missing,
        }
    summary: dict[str, Any] = {"benchmarks": rows}
    if len(benchmarks) > 1:
        summary[MEAN] = {
            "mean@k": asdict(mean_of([mean_at_k(b.accuracy) for b in benchmarks])),
            "pass@k": asdict(mean_of([pass_at_k(b.accuracy, b.responses) for b in benchmarks])),
        }
    return summary


def mean_or_none(values: Sequence[float]) -> float | None:
    """None where no response came at all: there is nothing to average."""
    return float(np.mean(values)) if values else None


def cells(summary: dict[str, Any]) -> list[tuple[str, ...]]:
    """One row of text per benchmark, and one for their mean."""
    rows = [
        (
            name,
            str(row["problems"]),
            str(row["k"]),
            percent(Estimate(**row["mean@k"])),
            percent(Estimate(**row[f"pass@{row['k']}"])),
            "-" if row["response_tokens"] is None else f"{row['response_tokens']:.0f}",
            "-" if row["truncated"] is None else f"{row['truncated']:.1%}",
        )
        for name, row in summary["benchmarks"].items()
    ]
    if MEAN in summary:
        both = [percent(Estimate(**summary[MEAN][key])) for key in ("mean@k", "pass@k")]
        rows.append((MEAN, "", "", *both, "", ""))
    return rows


def percent(estimate: Estimate) -> str:
    return f"{estimate.value * 100:.1f} [{estimate.low * 100:.1f}, {estimate.high * 100:.1f}]"


def remarks(summary: dict[str, Any]) -> list[str]:
    """What a reader must know before trusting the table: scores that stand for no judgement."""
    lines = []
    for name, row in summary["benchmarks"].items():
        if row["missing"]:
            lines.append(f"{name}: {row['missing']} responses never came; they count as wrong.")
        if row["grader_failed"]:
            lines.append(f"{name}: {row['grader_failed']:.1%} of the responses broke the grader; they count as wrong.")
    return lines


def markdown(summary: dict[str, Any], title: str) -> str:
    lines = [f"# {title}", "", " | ".join(HEADER), " | ".join(["---"] * len(HEADER))]
    lines += [" | ".join(row) for row in cells(summary)]
    table = [f"| {line} |" if index >= 2 else line for index, line in enumerate(lines)]
    return "\n".join([*table, "", CAPTION, *(f"\n{remark}" for remark in remarks(summary))]) + "\n"


def terminal(summary: dict[str, Any], title: str) -> Table:
    caption = " ".join([CAPTION, *remarks(summary)])
    # Tight enough for 80 columns.
    table = Table(title=title, caption=caption, box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for name in HEADER:
        table.add_column(name, justify="left" if name == HEADER[0] else "right", no_wrap=True)
    for row in cells(summary):
        table.add_row(*row, style="bold" if row[0] == MEAN else None)
    return table
