"""A checkpoint of verl's FSDP2 engine on several gloo ranks, and a run that resumes from it.

    VERL_PLATFORM=cpu .venv/bin/python -m tests.plugin.guard.engine_checkpoint FOLDER FSDP_SIZE RESUMED_FSDP_SIZE

Leaves in FOLDER the checkpoint global_step_1, the weights of its step (saved.pt), and weights and optimizer state after
one step more, as the run has them that went on (went_on.pt) and as one that resumed (resumed.pt).
"""

import logging
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch.multiprocessing import start_processes

from balanced_agg.arithmetic.tokenizer import build_tokenizer
from balanced_agg.plugin.guard import checkpoints
from tests.minibatch import make_minibatch
from tests.plugin.loss.engine_gradient import MODELS, backward, engine_of, saved_model

RANKS = 4
MODEL = next(iter(MODELS))


def train_step(engine) -> None:
    batch = make_minibatch(seed=12, groups=4, group_size=6).with_divisors("balanced")
    mine = batch.rows(range(dist.get_rank(), len(batch), RANKS))
    with engine.train_mode():
        backward(engine, mine, "balanced", len(batch), use_dynamic_bsz=False, micro_batch_size_per_gpu=len(mine))
        engine.optimizer_step()
        engine.lr_scheduler_step()


def whole_state(engine) -> dict[str, torch.Tensor]:
    """Weights and both moments of Adam, by name."""
    state = {name: weight.full_tensor() for name, weight in engine.module.state_dict().items()}
    for name, weight in engine.module.named_parameters():
        for moment in ("exp_avg", "exp_avg_sq"):
            state[f"{name}.{moment}"] = engine.optimizer.state[weight][moment].full_tensor()
    return state


def save(state: dict[str, torch.Tensor], file: Path) -> None:
    if dist.get_rank() == 0:
        torch.save(state, file)


def run_rank(rank: int, folder: Path, fsdp_size: int, resumed_fsdp_size: int) -> None:
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=RANKS)
    checkpoint = folder / "global_step_1"

    engine = engine_of(folder / "model", packed=True, fsdp_size=fsdp_size)
    train_step(engine)
    engine.save_checkpoint(str(checkpoint / "actor"))
    save(whole_state(engine), folder / "saved.pt")
    train_step(engine)
    save(whole_state(engine), folder / "went_on.pt")

    engine = engine_of(folder / "model", packed=True, fsdp_size=resumed_fsdp_size)
    engine.load_checkpoint(str(checkpoint / "actor"), del_local_after_load=False)
    train_step(engine)
    save(whole_state(engine), folder / "resumed.pt")
    dist.destroy_process_group()


def main(folder: Path, *fsdp_sizes: int) -> None:
    saved_model(MODEL, folder / "model")
    checkpoints.begin(folder / "global_step_1")
    start_processes(run_rank, (folder, *fsdp_sizes), RANKS, start_method="fork")
    build_tokenizer().save_pretrained(folder / "global_step_1/actor/huggingface")  # verl saves the model's there
    checkpoints.complete(folder / "global_step_1", {})


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
