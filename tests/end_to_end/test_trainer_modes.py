"""verl's three V1 trainers: the gradient norms they log, and the weights that their rollouts come from."""

from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from tests.end_to_end.launch import SMALL, train
from tests.end_to_end.reference import gradient_norm, load_model, log_probs_of

pytestmark = pytest.mark.slow

STEPS = 2
RESPONSES = 8  # of a prompt
# Half a batch of prompts is on its way before the first step: the second then trains on rollouts of two versions.
SETTINGS = {
    "sync": [],
    "colocate_async": ["trainer.v1.colocate_async.num_warmup_batches=0.5"],
    "separate_async": [
        "trainer.v1.separate_async.num_warmup_batches=0.5",
        # Two updates a step: the ratio of the second is to the policy before the first.
        "trainer.v1.separate_async.parameter_sync_step=2",
        "data.train_batch_size=8",
        # A rollout server with a rank of its own, besides the one that shares the trainer's.
        "actor_rollout_ref.rollout.nnodes=1",
        "actor_rollout_ref.rollout.checkpoint_engine.backend=gloo",
        "ray_kwargs.ray_init.num_gpus=2",
    ],
}


# `sync` is in test_pipeline.py and test_sessions.py, too.
@pytest.fixture(scope="module", params=[pytest.param("sync", marks=pytest.mark.evidence), *list(SETTINGS)[1:]])
def trained(request, tmp_path_factory, arithmetic_model):
    """Two balanced steps in one trainer mode: the run, its batches in order, and the weights before each update."""
    folder = tmp_path_factory.mktemp(request.param)
    run = train(
        "arithmetic",
        folder / "run",
        *SMALL,
        *SETTINGS[request.param],
        f"trainer.v1.trainer_mode={request.param}",
        f"trainer.total_training_steps={STEPS}",
        f"actor_rollout_ref.rollout.n={RESPONSES}",
        # A step waits for what is left of the step before, and takes that first.
        "trainer.v1.sampler.max_off_policy_strategy=wait",
        "trainer.v1.sampler.max_off_policy_threshold=2",
        # One update is to be seen in the log-probabilities.
        "actor_rollout_ref.actor.optim.lr=2e-4",
        environment={"VERL_USE_EXTERNAL_MODULES": "tests.end_to_end.updates", "UPDATES_DIR": str(folder)},
    )
    assert run.returncode == 0, run.log[-5000:]
    updates = range(STEPS * (2 if request.param == "separate_async" else 1))
    return SimpleNamespace(
        mode=request.param,
        run=run,
        batches=[folder / f"batch-{update}.pt" for update in updates],
        weights=[torch.load(folder / f"weights-{update}.pt") for update in updates],
        updates_a_step=len(updates) // STEPS,
    )


def read(batch: Path) -> dict:
    return torch.load(batch, weights_only=False)


def test_two_steps_end_well(trained):
    assert trained.run.leftover == []
    assert sorted(trained.run.steps) == [1, 2]


def test_every_update_has_the_reference_gradient_norm(trained, arithmetic_model):
    references = []
    for update, batch in enumerate(trained.batches):
        first = update - update % trained.updates_a_step
        old_weights = trained.weights[first] if first != update else None
        reference = gradient_norm(arithmetic_model, batch, "balanced", trained.weights[update], old_weights)
        logged = read(batch)["metrics"]["actor/grad_norm"]
        print(f"{trained.mode}, update {update}: {logged:.6f} logged, {reference:.6f} reference")
        assert logged == pytest.approx(reference, rel=1e-4), update
        references.append(reference)
    for step, metrics in trained.run.steps.items():
        of_step = references[(step - 1) * trained.updates_a_step : step * trained.updates_a_step]
        assert metrics["actor/grad_norm"] == pytest.approx(sum(of_step) / len(of_step), rel=1e-4)


def test_length_divisors_are_those_of_whole_groups(trained):
    for batch in map(read, trained.batches):
        data = batch["tensordict"]
        uids = list(data["uid"])
        assert set(Counter(uids).values()) == {RESPONSES}
        rewards = torch.stack([row.sum() for row in data["rm_scores"].unbind()])
        lengths = [int(mask.sum()) for mask in data["response_mask"].unbind()]
        for uid in set(uids):
            group = [row for row, other in enumerate(uids) if other == uid]
            better = rewards > rewards[group].mean() + 1e-6
            worse = rewards < rewards[group].mean() - 1e-6
            for row in group:
                of_sign = [lengths[r] for r in group if (better[r], worse[r]) == (better[row], worse[row])]
                assert float(data["length_divisor"][row]) == pytest.approx(sum(of_sign) / len(of_sign))


def test_every_rollout_has_the_log_probs_of_the_weights_that_it_names(trained, arithmetic_model):
    models = [load_model(arithmetic_model, trained.weights[step * trained.updates_a_step]) for step in range(STEPS)]
    versions = {step: set() for step in range(1, STEPS + 1)}
    from_own, from_other = [], []
    for batch in map(read, trained.batches):
        data = batch["tensordict"]
        for row, tag in enumerate(batch["tags"]):
            versions[batch["step"]].add(tag["min_global_steps"])
            if tag["min_global_steps"] != tag["max_global_steps"]:
                continue  # cut short by a weight sync, and continued with the new weights
            for version, model in enumerate(models):
                with torch.no_grad():
                    log_probs = log_probs_of(model, data["prompts"][row], data["responses"][row])
                difference = (log_probs - data["rollout_log_probs"][row]).abs().max()
                (from_own if version == tag["min_global_steps"] else from_other).append(float(difference))
    print(f"{trained.mode}: {versions} versions, {max(from_own):.1e} from their own, {max(from_other):.1e} from others")
    assert versions == {1: {0}, 2: {1} if trained.mode == "sync" else {0, 1}}
    assert max(from_own) < 1e-3
    assert max(from_other) > 0.1
