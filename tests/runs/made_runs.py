"""Runs made by hand, as verl leaves them behind."""

import json
from pathlib import Path

ACCURACY = "val-core/arithmetic/acc/mean@2"


def write_log(path: Path, records: list[tuple[int, dict]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({"step": step, "data": data}) + "\n" for step, data in records))
    return path


def write_config(folder: Path, mode: str, seed: int, total_steps: int | None = None, lr: str = "1e-5") -> None:
    """As Hydra saves it: interpolations as written, one of them to a variable that is not set here."""
    (folder / ".hydra").mkdir(parents=True, exist_ok=True)
    (folder / ".hydra/config.yaml").write_text(
        "run:\n  recipe: arithmetic\n"
        f"  seed: {seed}\n"
        "  name: ${run.recipe}-${actor_rollout_ref.actor.loss_agg_mode}-seed${run.seed}\n"
        "  dir: ${oc.env:NOT_SET_IN_ANY_TEST}/outputs\n"
        f"actor_rollout_ref:\n  actor:\n    loss_agg_mode: {mode}\n    optim:\n      lr: {lr}\n"
        "trainer:\n  experiment_name: ${run.name}\n"
        f"  total_training_steps: {'null' if total_steps is None else total_steps}\n"
    )


def make_run(
    root: Path,
    mode: str = "balanced",
    seed: int = 0,
    accuracies: dict[int, float] | None = None,
    steps: int = 4,
    total_steps: int | None = 4,
    lr: str = "1e-5",
    **metrics: float,
) -> str:
    """A run folder with validation `accuracies` by step, and the same training metrics at steps 1 … `steps`."""
    folder = root / f"arithmetic-{mode}-seed{seed}"
    accuracies = {0: 0.5, 4: 0.75} if accuracies is None else accuracies
    train = {"critic/score/mean": 0.5, "response_length/mean": 40.0, "actor/entropy": 0.25, "actor/grad_norm": 1.0}
    records = []
    for step in range(steps + 1):
        validation = {ACCURACY: accuracies[step]} if step in accuracies else {}
        records.append((step, (train | metrics if step else {}) | validation))
    write_log(folder / "metrics.jsonl", records)
    write_config(folder, mode, seed, total_steps, lr)
    return str(folder)
