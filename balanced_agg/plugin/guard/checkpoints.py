"""Which of a run's checkpoints are complete: those whose mark says so and agrees with the files beside it.

A checkpoint is verl's folder ``global_step_N``. Its mark, ``checkpoint.json`` in the folder, is there before the first
file is written and says ``complete: false``; an atomic write replaces it when the last one has been. A folder without a
mark was written by verl alone.
"""

import json
import re
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from balanced_agg.atomic_write import atomic_write
from balanced_agg.plugin.refusal import Refusal
from balanced_agg.untrusted import Unreadable, read_json

MARK = "checkpoint.json"
# Config and tokenizer of the model, from which no run resumes. verl's merger is often told to write the weights there.
FOR_PEOPLE = "huggingface"


def begin(folder: Path) -> None:
    """A folder for a new checkpoint, empty but for a mark that says that it is incomplete."""
    shutil.rmtree(folder, ignore_errors=True)
    _write_mark(folder, {"complete": False})


def complete(folder: Path, metrics: dict[str, Any]) -> None:
    """Mark the checkpoint as complete, with the names and sizes of its files.

    On a cluster whose nodes keep their shards to themselves these are the files of the driver's node.
    """
    _write_mark(folder, {"complete": True, "saved_at": time.time(), "files": _sizes(folder), "metrics": metrics})


def incomplete_because(folder: Path) -> str | None:
    """Why the run cannot resume from this checkpoint, in words; None if it can, or if verl alone wrote it."""
    try:
        mark = _read_mark(folder)
    except Unreadable as error:
        return str(error)
    if mark is None:
        return None
    if not mark["complete"]:
        return "its writing was interrupted"
    sizes = _sizes(folder)
    for name, size in mark["files"].items():
        if FOR_PEOPLE in Path(name).parts:  # a mark of an earlier version of ours
            continue
        if name not in sizes:
            return f"{name} is missing"
        if sizes[name] != size:
            return f"{name} has {sizes[name]} bytes instead of {size}"
    return None


def refuse_incomplete(config: Any) -> None:
    """Refusal if this composed verl config names an incomplete checkpoint to resume from."""
    path = config.trainer.resume_from_path
    if config.trainer.resume_mode == "resume_path" and path and (reason := incomplete_because(Path(path))):
        raise Refusal("trainer.resume_from_path", f"={path}: {reason}", "name another checkpoint")


def metrics(folder: Path) -> dict[str, Any]:
    """What the run had to log of its step when it saved this complete checkpoint; nothing if verl alone wrote it."""
    mark = _read_mark(folder)
    return mark["metrics"] if mark else {}


def completed(run: Path) -> list[Path]:
    """The complete checkpoints of a run that carry a mark, in the order in which they were written."""
    found = [folder for folder in _marked(run) if incomplete_because(folder) is None]
    return sorted(found, key=lambda folder: _read_mark(folder)["saved_at"])


def incomplete(run: Path) -> dict[str, str]:
    """Why each of the run's other marked checkpoints is incomplete, by name of the folder."""
    return {folder.name: reason for folder in _marked(run) if (reason := incomplete_because(folder))}


def prune(run: Path, keep: int | None) -> None:
    """Delete all complete checkpoints but the last `keep` (None: no complete one), and all incomplete ones."""
    for folder in completed(run)[:-keep] if keep else []:
        # So that what a kill leaves of it does not pass for complete.
        _write_mark(folder, {"complete": False})
    for folder in _marked(run):
        with suppress(Unreadable):  # which may be all that is damaged
            if not _read_mark(folder)["complete"]:
                shutil.rmtree(folder, ignore_errors=True)


def to_keep(trainer: Mapping[str, Any], use_critic: bool) -> int | None:
    """How many complete checkpoints verl's section `trainer` asks for; None: all.

    A checkpoint has an actor and maybe a critic: as many as either is to be kept of.
    """
    if trainer.get("remove_previous_ckpt_in_save", False):
        return 1
    limits: list[Any] = [trainer.get("max_actor_ckpt_to_keep")]
    if use_critic:
        limits.append(trainer.get("max_critic_ckpt_to_keep"))
    return max(limits) if all(limits) else None


def most_on_disk(keep: int | None, guarded: bool) -> int | None:
    """How many checkpoints lie on disk at most, which is while one is saved, of a run that keeps `keep`; None: all.

    The guard deletes an old one when the new one is complete. verl alone does so before it writes the new one, unless
    it keeps a single one.
    """
    return keep + (guarded or keep == 1) if keep else None


def unmarked(run: Path) -> list[Path]:
    """The folders of checkpoints that verl alone wrote."""
    return [folder for folder in _folders(run) if not (folder / MARK).exists()]


def step(folder: Path | str) -> int:
    """N of ``…/global_step_N``."""
    return int(str(folder).rpartition("global_step_")[2])


def _marked(run: Path) -> list[Path]:
    return [folder for folder in _folders(run) if (folder / MARK).exists()]


def _folders(run: Path) -> list[Path]:
    return sorted(path for path in run.glob("global_step_*") if re.fullmatch(r"global_step_\d+", path.name, re.ASCII))


def _sizes(folder: Path) -> dict[str, int]:
    """The bytes of each file that a run resumes from, by its path in the folder of the checkpoint."""
    files = {path.relative_to(folder): path for path in sorted(folder.rglob("*")) if path.is_file()}
    return {str(name): path.stat().st_size for name, path in files.items() if not {MARK, FOR_PEOPLE} & {*name.parts}}


def _read_mark(folder: Path) -> dict[str, Any] | None:
    """The mark of a folder; None without one. Unreadable for what neither `begin` nor `complete` has written."""
    path = folder / MARK
    if not path.exists():
        return None
    mark = read_json(path)
    if isinstance(mark, dict) and mark.get("complete") is False:
        return mark
    written = {"complete": bool, "saved_at": float | int, "files": dict, "metrics": dict}
    if isinstance(mark, dict) and all(isinstance(mark.get(key), kind) for key, kind in written.items()):
        return mark
    raise Unreadable(f"{path} is no mark of a checkpoint")


def _write_mark(folder: Path, mark: dict[str, Any]) -> None:
    with atomic_write(folder / MARK) as file:
        file.write_text(json.dumps(mark, indent=1) + "\n")
