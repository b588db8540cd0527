"""Ground truths of parquet files: that each is one that the grader of its data source takes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from balanced_agg.plugin.checks.data import complete, folders_of_tests, parquet_files
from balanced_agg.plugin.launch import OUR_REWARDS
from balanced_agg.plugin.refusal import Refusal

GROUND_TRUTH = "reward_model.ground_truth"
# Those of programs are test suites of up to many MB each. A row group with more of them than this is not read: only its
# count of nulls, which the file has, is looked at.
MOST_BYTES_OF_CODE = 2**26
SHOWN = 80  # characters of a value


def check_ground_truths(config: DictConfig) -> None:
    """Check that no ground truth in local parquet files is null, empty or of another kind than its grader takes.

    Only where the rewards are ours. The first one of a file that is wrong is named by its row, counted from 0.
    """
    if config.reward.custom_reward_function.path != OUR_REWARDS:
        return
    keys: dict[Path, str] = {}
    for key, file in parquet_files(config):
        keys.setdefault(file, key)  # an evaluation trains on its validation files
    folders = folders_of_tests(config)
    for file, key in keys.items():
        with complete(key, file):
            for row, source, value in ground_truths(file):
                if problem := wrong_with(source, value, folders):
                    what = f": {file}, row {row} (from 0): the ground_truth of {source} {problem}"
                    raise Refusal(key, what, f"correct it or leave the row out, or set {key} to another file")


def ground_truths(file: Path) -> Iterator[tuple[int, str, Any]]:
    """(row, data source, ground truth) of each row whose ground truth is read, a few at a time."""
    import pyarrow.parquet as pq

    opened = pq.ParquetFile(file, pre_buffer=False, buffer_size=2**20)
    first = 0
    for number in range(opened.num_row_groups):
        group = opened.metadata.row_group(number)
        rows, first = first, first + group.num_rows
        sources = opened.read_row_group(number, columns=["data_source"])["data_source"].to_pylist()
        if set(sources) == {"livecodebench"} and not worth_reading(group):
            continue
        rows_at_once = 16 if "livecodebench" in sources else 1024
        batches = opened.iter_batches(rows_at_once, row_groups=[number], columns=[GROUND_TRUTH])
        structs = (struct for batch in batches for struct in batch.column(0).to_pylist())
        for place, (source, struct) in enumerate(zip(sources, structs, strict=True)):
            yield rows + place, source, struct and struct["ground_truth"]


def worth_reading(group: Any) -> bool:
    """Whether the ground truths of a row group are few enough bytes, or some of them null."""
    nulls = any(column.statistics and column.statistics.null_count for column in columns_of(group))
    return nulls or size_of(group) <= MOST_BYTES_OF_CODE


def size_of(group: Any) -> int:
    """Bytes of a row group's ground truths."""
    return sum(column.total_uncompressed_size for column in columns_of(group))


def columns_of(group: Any) -> list[Any]:
    columns = map(group.column, range(group.num_columns))
    return [column for column in columns if f"{column.path_in_schema}.".startswith(f"{GROUND_TRUTH}.")]


def wrong_with(source: str, value: Any, folders: list[str]) -> str | None:
    """What the grader of the data source has against a ground truth; None if it takes it."""
    from balanced_agg.rewards import compute_score

    if value is None:
        return "is null"
    try:
        # No response is right; what the grader cannot take, it says first.
        compute_score(source, "", value, tests_folders=folders)
        # Any text is taken there, and anything but a digit is never right.
        wrong = source == "arithmetic" and not compute_score(source, f"#{value}", value)["score"]
    except Exception as error:  # whatever a grader raises
        return f"is {value!r:.{SHOWN}}: {' '.join(str(error).split()):.{3 * SHOWN}}"
    return f"is {value!r:.{SHOWN}}, which is not one digit as text" if wrong else None
