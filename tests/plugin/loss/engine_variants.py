"""verl's own FSDP2 engine on several gloo ranks as GPU recipes run it, with torch's attention in flash-attn's place.

    VERL_PLATFORM=cpu .venv/bin/python -m tests.plugin.loss.engine_variants [every-rule]

Prints a line of JSON for each model, variant of the engine and aggregation: by how much its gradient deviates from the
float64 reference. The last variants have a planted fault, which must be seen.
"""

import json
import logging
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
from torch.multiprocessing import start_processes

from balanced_agg.loss.rules import RULES
from tests.minibatch import OUR_MODES, MiniBatch, make_minibatch
from tests.plugin.loss import flash_attention
from tests.plugin.loss.engine_gradient import (
    MODELS,
    engine_gradient,
    engine_of,
    reference_gradient,
    relative_error,
    saved_model,
)

TIED, UNTIED = MODELS
TOKEN_BUDGET = 40  # of a micro-batch and rank; a sequence has up to 18
OTHER_ROW, LEAK = "the divisor of another row, on one rank", "attention across sequences"


@dataclass(frozen=True)
class Variant:
    """A way to run the engine, on packed sequences and micro-batches of a dynamic size.

    late_gradients: ranks share their gradients at the last micro-batch alone, not as verl's config has it.
    """

    ranks: int
    sequence_parallel: int = 1
    fsdp_size: int = -1
    forward_prefetch: bool = False
    late_gradients: bool = False
    fused_kernels: bool = False
    fault: str = ""
    models: tuple[str, ...] = (TIED, UNTIED)

    @property
    def dp_size(self) -> int:
        return self.ranks // self.sequence_parallel

    @property
    def name(self) -> str:
        parts = [f"dp {self.dp_size} x SP {self.sequence_parallel}"]
        parts += [f"fsdp_size={self.fsdp_size}"] if self.fsdp_size > 0 else []
        keys = ("forward_prefetch", "late_gradients", "fused_kernels")
        return ", ".join(parts + [key for key in keys if getattr(self, key)])


VARIANTS = (
    Variant(2, sequence_parallel=2),
    Variant(4),
    Variant(4, sequence_parallel=2),
    Variant(4, fsdp_size=2),
    Variant(4, sequence_parallel=2, fsdp_size=2, late_gradients=True),
    Variant(4, sequence_parallel=2, forward_prefetch=True),
    Variant(4, sequence_parallel=2, fused_kernels=True, models=(TIED,)),  # verl crashes with the other
    Variant(4, sequence_parallel=2, fault=OTHER_ROW, models=(TIED,)),
    Variant(4, sequence_parallel=2, fault=LEAK, models=(TIED,)),
)


def run_rank(rank: int, variant: Variant, folder: Path, batch: MiniBatch, modes: Sequence[str]) -> None:
    """One rank, with its share of the batch: the first leaves the gradients by model and mode in ``folder``."""
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    flash_attention.install(leaking=variant.fault == LEAK)
    rendezvous = f"file://{folder}/rendezvous"
    dist.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=variant.ranks)
    found = {}
    for name in variant.models:
        engine = engine_of(
            folder / name,
            packed=True,
            attention="flash_attention_2",
            fused_kernels=variant.fused_kernels,
            ulysses_sequence_parallel_size=variant.sequence_parallel,
            fsdp_size=variant.fsdp_size,
            forward_prefetch=variant.forward_prefetch,
            use_no_sync_for_gradient_accumulation=variant.late_gradients,
        )
        dp_rank = engine.get_data_parallel_rank()
        for mode in modes:
            mine = batch.with_divisors(mode).rows(range(dp_rank, len(batch), variant.dp_size))
            if variant.fault == OTHER_ROW and dp_rank == 1:
                mine.data["length_divisor"] = mine.data["length_divisor"].roll(1)
            split = {"use_dynamic_bsz": True, "max_token_len_per_gpu": TOKEN_BUDGET}
            found[name, mode] = engine_gradient(engine, mine, mode, len(batch), **split)
    if rank == 0:
        torch.save(found, folder / "gradients.pt")
    dist.destroy_process_group()


def compare(
    folder: Path, modes: Sequence[str], variants: Sequence[Variant] = VARIANTS
) -> Iterator[dict[str, str | float]]:
    batch = make_minibatch(seed=12, groups=4, group_size=6)
    models = {name: saved_model(name, folder / name) for name in MODELS}
    expected = {}
    for variant in variants:
        # Forked, so that each has verl as it is when imported: the engine patches classes of transformers.
        arguments = (variant, folder, batch, OUR_MODES if variant.fault else modes)
        start_processes(run_rank, arguments, variant.ranks, start_method="fork")
        (folder / "rendezvous").unlink()
        for (name, mode), gradient in torch.load(folder / "gradients.pt").items():
            if (name, mode) not in expected:
                expected[name, mode] = reference_gradient(models[name], batch, mode)
            error = relative_error(gradient, expected[name, mode])
            yield {"model": name, "variant": variant.name, "fault": variant.fault, "mode": mode, "error": error}


def main(every_rule: bool) -> None:
    modes = [rule.mode for rule in RULES.values()] if every_rule else OUR_MODES
    with tempfile.TemporaryDirectory() as folder:
        for row in compare(Path(folder), modes):
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main("every-rule" in sys.argv[1:])
