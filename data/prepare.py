"""Write a data set as a parquet file for verl, with a manifest that says what is in it.

A row has verl's columns. `extra_info.index` is the row's number in the source. Benchmarks have the further column
`__rollout_n__`: verl draws that many responses to the row in validation. All files of one kind have the same columns
and types, so that verl can put them together. The tests of programs are in a file of their own beside the parquet file.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from balanced_agg.data.control_characters import restore, restore_row
from balanced_agg.data.dataset import INSTRUCTION, Dataset, Problem, Row, Unusable, in_verl_schema
from balanced_agg.data.sources import find_source, sha256_of

import balanced_agg
from balanced_agg.atomic_write import atomic_write
from balanced_agg.rewards import packed_tests
from balanced_agg.rewards.answer_text import read_literal
from balanced_agg.untrusted import TOO_LARGE, read_json

# Raise it when the same source would give other rows; files of older versions are then written anew.
VERSION = 2
LONGEST_PROMPT = 100_000  # characters; far above any real problem, and slow to tokenize
EXAMPLES = 5  # rows named in the manifest for each reason
ROW_GROUP_BYTES = 64 * 2**20
REPEATED, CONFLICTING = "repeats an earlier row", "same prompt, another answer"
CONTROL_CHARACTERS = "have a control character where LaTeX may have had a backslash"
INSTRUCTED = "ask in words of their own for the form of the answer, besides ours"

EXTRA_INFO = [("index", pa.int64()), *((name, pa.string()) for name in ("split", "id", "unit", "answer_type"))]
COLUMNS = [
    ("data_source", pa.string()),
    ("prompt", pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))),
    ("ability", pa.string()),
    ("reward_model", pa.struct([("style", pa.string()), ("ground_truth", pa.string())])),
    ("extra_info", pa.struct(EXTRA_INFO)),
]
TRAINING = pa.schema(COLUMNS)
BENCHMARK = pa.schema([*COLUMNS, ("__rollout_n__", pa.int64())])


Reasons = dict[str, dict[str, Any]]  # reason -> rows, examples


@dataclass
class Tally:
    """What became of the rows of a source: `source_rows` = rows written + rows dropped."""

    source_rows: int = 0
    problems: int = 0  # distinct, those with conflicting answers included
    dropped: Reasons = field(default_factory=dict)
    conflicting: set[int] = field(default_factory=set)  # indices of first rows whose prompt has another answer later
    backslashes: Reasons = field(default_factory=dict)  # restored, by the source's column
    doubts: Reasons = field(default_factory=dict)
    verl_sources: set[str] = field(default_factory=set)  # `data_source` of the rows that came in verl's schema

    def drop(self, reason: str, row: str) -> None:
        note(self.dropped, reason, row)

    def unusable(self) -> int:
        return sum(entry["rows"] for reason, entry in self.dropped.items() if reason not in (REPEATED, CONFLICTING))

    def warnings(self) -> list[str]:
        return [f"{entry['rows']} rows that {what}: {named(entry)}" for what, entry in self.doubts.items()]


def note(reasons: Reasons, reason: str, row: str) -> None:
    entry = reasons.setdefault(reason, {"rows": 0, "examples": []})
    entry["rows"] += 1
    if len(entry["examples"]) < EXAMPLES:
        entry["examples"].append(row)


def named(entry: dict[str, Any]) -> str:
    return ", ".join(entry["examples"] + ["…"] * (entry["rows"] > len(entry["examples"])))


@dataclass(frozen=True)
class Prepared:
    path: Path
    manifest: dict[str, Any]
    wrote: bool  # False if the file was up to date


def prepare(
    dataset: Dataset,
    out: Path,
    path: Path | list[Path] | None = None,
    expect: int | None = None,
    only_one: bool = True,
    progress: Callable[[Iterable[Row], int | None], Iterable[Row]] = lambda rows, total: rows,
) -> Prepared:
    """Write `out`/NAME.parquet and its manifest NAME.json, unless they exist and are intact.

    A data set of programs has a third file, NAME.tests.zip (rewards/packed_tests.py). Each write is atomic, the
    manifest's comes last; a manifest that does not fit its files makes the next run write all of them again. The same
    source gives the same bytes.

    Args:
        path: file or folder to read in place of the hub, or several that make up the data set.
        expect: number of distinct problems that the source must have.
        only_one: `path` is for this data set alone.
        progress: wraps the rows as they are read; gets their number if it is known.

    Raises:
        HubUnavailable: no `path`, and the hub cannot be read.
        ValueError: the source is missing or unreadable, lacks a field, has no usable row, or not as many problems
            as `expect` says or, on the hub, as the data set asserts.
    """
    source, open_rows = find_source(dataset, path, only_one)
    parquet, manifest_path = out / f"{dataset.name}.parquet", out / f"{dataset.name}.json"
    identity = {"name": dataset.name, "version": VERSION} | source
    tests = parquet.with_suffix(packed_tests.SUFFIX) if dataset.ability == "code" else None
    manifest = intact_manifest(manifest_path, parquet, tests)
    if manifest and manifest.items() >= identity.items() and expect in (None, manifest["problems"]):
        return Prepared(parquet, manifest, wrote=False)

    rows, total, record = open_rows()
    schema, tally = TRAINING if dataset.k is None else BENCHMARK, Tally()
    with atomic_write(parquet) as temporary, atomic_write(tests) if tests else nullcontext() as temporary_tests:
        try:
            with packed_tests.Writer(temporary_tests, tests.name) if tests else nullcontext() as writer:
                write_rows(to_verl(dataset, progress(rows, total), tally, writer), schema, temporary)
        except MemoryError:
            raise ValueError(f"{record['source']} cannot be read: {TOO_LARGE}") from None
        if tally.conflicting:
            drop_rows(temporary, tally.conflicting)
        if tally.problems == len(tally.conflicting):
            reasons = "; ".join(f"{entry['rows']} x {reason}" for reason, entry in tally.dropped.items())
            raise ValueError(f"none of the {tally.source_rows} rows can be used: {reasons or 'there are none'}")
        warning = check_count(dataset, tally, expect, from_hub=not path)
        sha256 = sha256_of(temporary)
        of_tests = {"tests_file": tests.name, "tests_sha256": sha256_of(temporary_tests)} if tests else {}
    manifest = {
        "name": dataset.name,
        "version": VERSION,
        **record,
        "file": parquet.name,
        "sha256": sha256,
        **of_tests,
        "rows": tally.problems - len(tally.conflicting),
        "columns": schema.names,
        "data_source": dataset.data_source or dataset.name,
        "rollout_n": dataset.k,
        "source_rows": tally.source_rows,
        "problems": tally.problems,
        "conflicting_prompts": len(tally.conflicting),
        "dropped": tally.dropped,
        "restored_backslashes": tally.backslashes,
        "verl_data_sources": sorted(tally.verl_sources),
        "warnings": [warning] * bool(warning) + tally.warnings(),
        "created_by": f"balanced_agg {balanced_agg.__version__}, pyarrow {pa.__version__}",
    }
    with atomic_write(manifest_path) as temporary:
        temporary.write_text(json.dumps(manifest, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return Prepared(parquet, manifest, wrote=True)


def to_verl(
    dataset: Dataset, rows: Iterable[Row], tally: Tally, writer: packed_tests.Writer | None = None
) -> Iterator[Row]:
    """The first row of each problem in verl's schema; the tally gets what becomes of the others.

    With a `writer` the ground truth goes to its file, and the row has the reference.

    Whether a problem has conflicting answers is known only after the last row.
    """
    first_of: dict[bytes, tuple[int, str, bytes]] = {}  # problem -> index, name and answer of its first row
    for index, row in enumerate(rows):
        tally.source_rows += 1
        # In programs a form feed or a tab is one.
        restored = restore_row(row) if dataset.ability == "math" else row
        try:
            problem = dataset.convert(restored)
            if sum(len(message["content"]) for message in problem.messages) > LONGEST_PROMPT:
                raise Unusable(f"the prompt is longer than {LONGEST_PROMPT} characters")
            if len(problem.ground_truth) > packed_tests.MOST_BYTES:
                raise Unusable(f"the ground truth is longer than {packed_tests.MOST_BYTES} characters")
        except Unusable as reason:
            tally.drop(str(reason), f"row {index}")
            continue
        name, answer = problem.id or f"row {index}", digest(value_of(problem.ground_truth))
        key = digest(problem.key or problem.messages[-1]["content"])
        first, first_name, first_answer = first_of.setdefault(key, (index, name, answer))
        if first == index:
            tally.problems += 1
            look_at(row, restored, problem, f"row {index}", tally, dataset.instruction)
            yield verl_row(
                dataset, problem, index, writer.add(problem.ground_truth) if writer else problem.ground_truth
            )
        elif answer == first_answer:
            tally.drop(REPEATED, name)
        else:
            if first not in tally.conflicting:
                tally.conflicting.add(first)
                tally.drop(CONFLICTING, first_name)
            tally.drop(CONFLICTING, name)


def look_at(row: Row, restored: Row, problem: Problem, name: str, tally: Tally, instruction: str) -> None:
    """Note what was changed in a row that is kept, and what in it is doubtful."""
    for column in row:
        if restored[column] is not row[column] and restored[column] != row[column]:  # NaN is itself, and not equal
            note(tally.backslashes, column, name)
    if in_verl_schema(row):
        tally.verl_sources.add(str(row.get("data_source")))
        question = problem.messages[-1]["content"].removesuffix(instruction)
        if problem.messages != row["prompt"] and (found := INSTRUCTION.search(question)):
            note(tally.doubts, INSTRUCTED, f"{name} ({found[0]})")
    texts = [("prompt", message["content"]) for message in problem.messages] + [("ground_truth", problem.ground_truth)]
    for column, text in texts if restored is not row else ():
        if doubtful := restore(text, column == "ground_truth")[1]:
            note(tally.doubts, CONTROL_CHARACTERS, f"{name}, {column}: {doubtful[0]}")


def verl_row(dataset: Dataset, problem: Problem, index: int, ground_truth: str) -> Row:
    return {
        "data_source": dataset.data_source or dataset.name,
        "prompt": problem.messages,
        "ability": dataset.ability,
        "reward_model": {"style": "rule", "ground_truth": ground_truth},
        "extra_info": {
            "index": index,
            "split": dataset.split,
            "id": problem.id,
            "unit": problem.unit,
            "answer_type": problem.answer_type,
        },
        "__rollout_n__": dataset.k,  # left out where the schema has no such column
    }


def value_of(gold: str) -> str:
    """The gold, in which 25, 25.0 and 025 are one number: they are no conflict."""
    number = read_literal(gold)
    return f"{number.value} {number.percent}" if number else gold


def digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def write_rows(rows: Iterable[Row], schema: pa.Schema, path: Path) -> None:
    """Write rows as they come, in row groups of bounded size."""
    size, group = 0, []
    with pq.ParquetWriter(path, schema) as writer:
        for row in rows:
            group.append(row)
            size += sum(len(message["content"]) for message in row["prompt"]) + len(row["reward_model"]["ground_truth"])
            if size > ROW_GROUP_BYTES:
                writer.write_table(pa.Table.from_pylist(group, schema))
                size, group = 0, []
        if group:
            writer.write_table(pa.Table.from_pylist(group, schema))


def drop_rows(path: Path, indices: set[int]) -> None:
    """Rewrite the file without the rows of these indices."""
    with (
        atomic_write(path) as temporary,
        pq.ParquetFile(path) as file,
        pq.ParquetWriter(temporary, file.schema_arrow) as writer,
    ):
        for number in range(file.num_row_groups):
            group = file.read_row_group(number)
            dropped = pc.is_in(pc.struct_field(group["extra_info"], "index"), pa.array(indices, pa.int64()))
            writer.write_table(group.filter(pc.invert(dropped)))


def check_count(dataset: Dataset, tally: Tally, expect: int | None, from_hub: bool) -> str | None:
    """A warning if the source has another number of problems than it should; ValueError where that is an error.

    Its rows that cannot be used are problems all the same: a source that has them is not incomplete.
    """
    found, allowed = tally.problems, dataset.problems if expect is None else (expect,)
    if not allowed or found in allowed:
        return None
    message = f"expected {' or '.join(map(str, allowed))} distinct problems, found {found}"
    if expect is not None:
        raise ValueError(f"{message}: give the right source, or --expect {found}")
    if dataset.asserted and from_hub:
        raise ValueError(f"{message}: {dataset.source} has changed; --expect {found} accepts it")
    if found > max(allowed):
        return f"{message}: this is more than {dataset.source}"
    if unusable := tally.unusable():
        message += f" besides {unusable} rows that cannot be used"
    return message if found + unusable in allowed else f"{message}: this is an incomplete copy of {dataset.source}"


def intact_manifest(manifest_path: Path, parquet: Path, tests: Path | None) -> dict[str, Any] | None:
    """The manifest if the files are those that it was written for."""
    try:
        manifest = read_json(manifest_path)
        intact = manifest["sha256"] == sha256_of(parquet) and (
            tests is None or manifest["tests_sha256"] == sha256_of(tests)
        )
        return manifest if intact else None
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None  # nothing there yet, or damaged: write all
