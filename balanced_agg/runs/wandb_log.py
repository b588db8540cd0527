"""Runs that wandb holds: offline folders on this machine, entity/project paths on its server.

An offline run is one file, run-ID.wandb: records in protobuf, framed as in LevelDB's log
(https://github.com/google/leveldb/blob/main/doc/log_format.md) behind a header of 7 bytes, with a plain CRC-32.
"""

import re
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from balanced_agg.runs.file_log import Records
from balanced_agg.untrusted import DEEPEST, Unreadable, opened, parse_json

BLOCK, FILE_HEADER, FRAME_HEADER = 32768, 7, 7  # bytes
MAGIC = b":W&B"
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4
PATH = re.compile(r"[\w.-]+/[\w.-]+(/[\w.-]+)?")
KEY_LIKE = re.compile(r"\w{32,}")


@dataclass
class WandbRun:
    """A run as wandb stored it; `records` in the order written, `started` in anything that sorts."""

    name: str
    id: str
    started: Any
    config: dict[str, Any]
    records: Records
    commit: str | None = None
    notes: list[str] = field(default_factory=list)


class WandbError(RuntimeError):
    """wandb's server could not be asked; the message is one line and holds no key."""


def join_segments(runs: Sequence[WandbRun]) -> list[WandbRun]:
    """One run for each name: an interrupted run that is started again is a further run of the same name to wandb.

    The segments count in the order they were started; all but records and notes are those of the last.
    """
    by_name: dict[str, list[WandbRun]] = {}
    for run in sorted(runs, key=lambda run: run.started):
        by_name.setdefault(run.name, []).append(run)
    joined = []
    for segments in by_name.values():
        records = [record for run in segments for record in run.records]
        notes = [note for run in segments for note in run.notes]
        if len(segments) > 1:
            notes.append(f"joined from {len(segments)} wandb runs: {', '.join(run.id for run in segments)}")
        config = {key: value for key, value in segments[-1].config.items() if not key.startswith("_")}  # wandb's own
        joined.append(replace(segments[-1], config=config, records=records, notes=notes))
    return joined


def offline_files(folder: Path) -> list[Path]:
    """The .wandb files of an offline-run folder, of a wandb/ folder of such, or of a folder that holds wandb/."""
    if found := sorted(folder.glob("*.wandb")):
        return found
    for pattern in ("*run-*/*.wandb", "wandb/*run-*/*.wandb"):
        # wandb/latest-run is a link to one of the others.
        if found := sorted(file for file in folder.glob(pattern) if not file.parent.is_symlink()):
            return found
    return []


def read_offline(file: Path) -> WandbRun | None:
    """A run from its .wandb file, finished or not; None if it has only just been started and nothing is written.

    A record that is not as wandb writes it is left out, and noted.

    Raises:
        Unreadable: no file of wandb's.
    """
    from google.protobuf.message import DecodeError
    from wandb.proto.wandb_internal_pb2 import Record

    run, notes, damaged = None, [], 0
    for payload in frames(file, notes):
        try:
            record = Record.FromString(payload)
            kind = record.WhichOneof("record_type")
            if kind == "run":
                started = record.run.start_time.ToNanoseconds()
                name = record.run.display_name or record.run.run_id
                run = WandbRun(name, record.run.run_id, started, {}, [], record.run.git.commit or None, notes)
            if kind == "history" and run:
                metrics = {
                    item.key or "/".join(item.nested_key): parse_json(item.value_json) for item in record.history.item
                }
                run.records.append((record.history.step.num, metrics))
            if kind in ("run", "config") and run:
                for item in (record.run.config if kind == "run" else record.config).update:
                    *parents, last = item.nested_key or [item.key]
                    if len(parents) > DEEPEST:
                        raise ValueError("a config nested too deeply")
                    place = run.config
                    for parent in parents:
                        place = place.setdefault(parent, {})
                    place[last] = parse_json(item.value_json)
        except (DecodeError, ValueError, TypeError, AttributeError):  # of protobuf, JSON, a config
            damaged += 1
    if damaged:
        notes.append(f"{damaged} records of {file.name} are not as wandb writes them, and left out")
    return run


def frames(file: Path, notes: list[str]) -> Iterator[bytes]:
    """The records of a .wandb file. An incomplete record ends them, and is noted. An empty file has none.

    Raises:
        Unreadable: the file does not begin as wandb's do, or cannot be read.
    """
    with opened(file) as stream:
        content = stream.read()
    if content[: len(MAGIC)] != MAGIC[: len(content)]:
        raise Unreadable(f"{file} does not begin with {MAGIC.decode()}: no run file of wandb's")
    position, record = FILE_HEADER, b""
    while position < len(content):
        left_in_block = BLOCK - position % BLOCK
        if left_in_block < FRAME_HEADER:
            position += left_in_block
            continue
        start = position + FRAME_HEADER
        if start > len(content):
            break
        checksum, length, kind = struct.unpack_from("<IHB", content, position)
        position = start + length
        # The checksum covers the frame's kind, the header's last byte, as well.
        if position > len(content) or zlib.crc32(content[start - 1 : position]) != checksum:
            break
        record = content[start:position] if kind in (FULL, FIRST) else record + content[start:position]
        if kind in (FULL, LAST):
            yield record
            record = b""
    else:
        if not record:
            return
    notes.append(f"the end of {file.name} is incomplete; what stands before it counts")


def read_online(path: str) -> list[WandbRun]:
    """All runs of entity/project, or the one run entity/project/run_id, with their complete history.

    Raises:
        WandbError: no key, no network, no such project or run.
        ValueError: there is no run in the project.
    """
    import wandb

    try:
        api = wandb.Api()
        found = [api.run(path)] if path.count("/") == 2 else list(api.runs(path))
        runs = []
        for run in found:
            records = [(int(row["_step"]), row) for row in run.scan_history()]
            commit = getattr(run, "commit", None)
            runs.append(WandbRun(run.name, run.id, run.created_at, dict(run.config), records, commit))
    except Exception as error:  # of wandb, requests, GraphQL: it has no common base for what its server refuses
        raise WandbError(f"wandb could not read {path}: {one_line(error)}") from None
    if not runs:
        raise ValueError(f"{path}: the wandb project has no runs")
    return runs


def one_line(error: Exception) -> str:
    """The first line of an error's message, with whatever is as long as a key left out."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return KEY_LIKE.sub("…", lines[0])
