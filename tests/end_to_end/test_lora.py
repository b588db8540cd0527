"""Training a LoRA adapter: balanced steps on two ranks, and the gradient norms they log."""

import pytest
import torch

from tests.end_to_end.launch import SMALL, train
from tests.end_to_end.reference import gradient_norm

pytestmark = pytest.mark.slow

STEPS = 2


def test_every_step_of_an_adapter_has_the_reference_gradient_norm(tmp_path, arithmetic_model):
    run = train(
        "arithmetic",
        tmp_path / "run",
        *SMALL,
        "trainer.n_gpus_per_node=2",
        f"trainer.total_training_steps={STEPS}",
        "actor_rollout_ref.model.lora_rank=8",
        # Half of the adapter is 0 before the first step, and has to be seen to move.
        "actor_rollout_ref.actor.optim.lr=1e-3",
        environment={"VERL_USE_EXTERNAL_MODULES": "tests.end_to_end.updates", "UPDATES_DIR": str(tmp_path)},
    )
    assert run.returncode == 0, run.log[-5000:]
    assert run.leftover == []
    adapters = [torch.load(tmp_path / f"weights-{step}.pt") for step in range(STEPS)]
    assert [any(adapter[name].any() for name in adapter if "lora_B" in name) for adapter in adapters] == [False, True]
    for step, adapter in enumerate(adapters, start=1):
        reference = gradient_norm(arithmetic_model, tmp_path / f"batch-{step - 1}.pt", "balanced", adapter)
        logged = run.steps[step]["actor/grad_norm"]
        print(f"step {step}: {logged:.6f} logged, {reference:.6f} reference")
        assert logged == pytest.approx(reference, rel=1e-4)
        assert run.steps[step]["training/rollout_probs_diff_max"] < 1e-3  # vLLM has the adapter, too
