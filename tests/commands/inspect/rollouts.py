"""Small dumps for the tests of this folder."""

import json
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

# Two groups at one step, as (prompt, score, tokens). With n - 1 in the deviation, the first group's advantages are
# +-sqrt(3)/2 up to verl's epsilon, the second has no gradient.
BY_HAND = (("a", 1.0, 10), ("a", 1.0, 30), ("a", 0.0, 50), ("a", 0.0, 70), ("b", 1.0, 5), ("b", 1.0, 15))


def rows_of(responses: Sequence[tuple[str, float, int]] = BY_HAND, step: int = 1) -> list[dict]:
    """Rows with verl's fields and `response_tokens`; the text has as many characters."""
    sessions: dict[str, int] = {}
    rows = []
    for prompt, score, tokens in responses:
        session = sessions[prompt] = sessions.get(prompt, -1) + 1
        row = {"input": f"prompt {prompt}", "output": "1" * tokens, "gts": "1", "score": score, "step": step}
        rows.append(row | {"uid": f"{prompt}_{session}_0", "response_tokens": tokens})
    return rows


def write_jsonl(path: Path, rows: Sequence[dict]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def write_parquet(path: Path, rows: Sequence[dict], row_group_size: int | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(list(rows)), path, row_group_size=row_group_size)
    return path
