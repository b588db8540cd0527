"""FSDP shards of any number of ranks into a model directory, by verl's own merger, in bf16.

``python -m balanced_agg.commands.evaluate.merge SHARDS TARGET`` does it for a checkpoint that may be a stranger's: in
this process torch.load makes tensors and calls nothing, memory is bounded by the size of the shards, and what cannot be
merged is one line and the exit status REFUSED.
"""

import logging
import os
import sys
from pathlib import Path
from typing import Any

from balanced_agg.commands.terminal import messages
from balanced_agg.runs.wandb_log import one_line
from balanced_agg.untrusted import bounded_memory, opened, read_json, select, shown

SHARDS = "model_world_size_*_rank_*.pt"  # verl's FSDP checkpoint, one file a rank
REFUSED = 2


def command(shards: Path, target: Path, trusted: bool) -> list[str]:
    """The process that merges; `trusted` is verl's merger alone, which unpickles whatever a file asks for."""
    if not trusted:
        return [sys.executable, "-m", __name__, str(shards), str(target)]
    verl = [sys.executable, "-m", "verl.model_merger", "merge", "--backend", "fsdp"]
    return [*verl, "--local_dir", str(shards), "--target_dir", str(target)]


def merge(shards: Path, target: Path) -> None:
    """Raises ValueError for what is not as verl's checkpoints are, and whatever verl's merger raises."""
    files = sorted(shards.glob(SHARDS))
    ranks = select(read_json(shards / "fsdp_config.json"), "world_size")
    incomplete = ValueError(
        f"{shards / 'fsdp_config.json'} has world_size={ranks!r:.20}, but there are {len(files)} shards"
    )
    expected = {f"model_world_size_{ranks}_rank_{rank}.pt" for rank in range(len(files))}
    if not isinstance(ranks, int) or not 0 < len(files) <= ranks or {file.name for file in files} != expected:
        raise incomplete
    checked = [check_shard(file, ranks) for file in files]
    tensors = max(count for count, _ in checked)
    if len(files) < max(replica for _, replica in checked):
        raise incomplete
    config = read_json(shards / "huggingface/config.json")
    for key in ("num_hidden_layers", "text_config.num_hidden_layers"):
        layers = select(config, key)
        if isinstance(layers, int) and layers > tensors:
            raise ValueError(
                f"{shards / 'huggingface/config.json'}: {layers} layers, but the shards have {tensors} tensors"
            )

    from verl.model_merger.__main__ import main

    sys.argv = ["verl.model_merger", *command(shards, target, trusted=True)[3:]]
    main()


def check_shard(file: Path, ranks: int) -> tuple[int, int]:
    """(tensors in a shard, first ranks that have all of them together): with ``fsdp_size`` not all ranks, whose files
    may be on other nodes.

    Raises:
        ValueError: it is no dictionary of tensors that have their own data.
    """
    import torch
    from torch.distributed.tensor import DTensor

    opened(file).close()
    try:
        state: Any = torch.load(file, map_location="cpu", mmap=True, weights_only=True)
    except Exception as error:  # of torch, pickle or zip, by where it ends
        raise ValueError(f"{file} is not loaded: {reason(error)}") from None
    size, replica = 0, 0
    for name, tensor in state.items() if isinstance(state, dict) else [(type(state).__name__, None)]:
        if isinstance(tensor, DTensor):
            if tensor.device_mesh.mesh.numel() > ranks:
                raise ValueError(f"{file}: {name!r:.80} is spread over more than {ranks} ranks")
            replica = max(replica, tensor.device_mesh.mesh.shape[-1])
            tensor = tensor.to_local()
        if not isinstance(tensor, torch.Tensor):
            raise ValueError(f"{file} is not loaded: {name!r:.80} is no tensor")
        size += tensor.numel() * tensor.element_size()
    if size > 2 * file.stat().st_size:  # tied weights have one piece of data
        raise ValueError(f"{file} is not loaded: its tensors have {size} bytes, but the file {file.stat().st_size}")
    return len(state), replica or ranks


def reason(error: Exception) -> str:
    """Why torch did not load a file: what it would have called, where that is why."""
    lines = [line.strip() for line in str(error).splitlines()]
    named = next((line for line in lines if "Unsupported" in line or "GLOBAL" in line), None)
    return named or one_line(error)


def main(shards: str, target: str) -> int:
    os.environ.pop("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", None)
    os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"  # whatever a caller of torch.load says
    # It warns of a mesh without process groups, on which nothing is computed here.
    logging.getLogger("torch.distributed.device_mesh").setLevel(logging.ERROR)
    try:
        with bounded_memory(Path(shards).glob(SHARDS)):
            merge(Path(shards), Path(target))
    except Exception as error:  # of verl and transformers, too
        where = "" if shards in str(error) else f"{shards} cannot be merged: {type(error).__name__}: "
        messages.print(f"balanced-agg evaluate: {shown(where)}{shown(one_line(error))}")
        return REFUSED
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
