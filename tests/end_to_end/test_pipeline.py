"""Real runs: Ray, TransferQueue, vLLM rollouts, FSDP2 actors over gloo, and the gradient norms they log."""

import json

import pytest

from balanced_agg.loss.rules import mode_name
from tests.composed import compose_recipe
from tests.end_to_end.dumps import check_dump, lost_tokens
from tests.end_to_end.launch import SMALL, replay, train
from tests.end_to_end.reference import gradient_norm
from tests.end_to_end.settings_by_step import FURTHER_MODES, MODES, SETTINGS

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def reference_norms(first_run, arithmetic_model):
    """The float64 gradient norm of the recorded batch under each mode."""
    _, recorded = first_run
    (batch,) = recorded.rglob("tq_batch.pt")
    norms = {mode: gradient_norm(arithmetic_model, batch, mode) for mode in (*MODES, *FURTHER_MODES)}
    assert len({round(norm, 4) for norm in norms.values()}) == len(norms), "too alike to be told apart"
    return norms


def test_three_balanced_steps_on_two_ranks_end_well(first_run):
    run, _ = first_run
    assert run.leftover == []
    assert sorted(run.steps) == [1, 2, 3]
    assert all(step["actor/grad_norm"] > 0 for step in run.steps.values())


def test_rollout_and_actor_log_probs_agree(first_run):
    run, _ = first_run
    differences = [float(line) for line in (run.dir.parent / "log_prob_differences.txt").read_text().split()]
    assert len(differences) == 3
    assert max(differences) < 0.01, differences


def test_inspect_finds_in_the_dumped_rollouts_what_the_run_logged(first_run, arithmetic_model, capsys):
    run, _ = first_run
    dump, longest = run.dir.parent / "rollouts", compose_recipe("arithmetic").data.max_response_length
    lost = {
        step: lost_tokens(dump / f"{step}.jsonl", logged["response_length/mean"], arithmetic_model, longest)
        for step, logged in run.steps.items()
    }
    assert all(0 <= tokens <= 2 for tokens in lost.values()), lost
    check_dump(run, dump, arithmetic_model, longest, {step for step in lost if lost[step]}, capsys)


@pytest.mark.parametrize("role", ["driver", "actor", "vllm"])
def test_the_plugin_is_active_in_every_kind_of_process(first_run, role):
    run, _ = first_run
    seen = json.loads((run.dir.parent / f"{role}.json").read_text())
    assert seen["plugin"] and seen["agg_loss_wrapped"]


def test_the_first_step_has_the_reference_gradient_norm(first_run, reference_norms):
    run, _ = first_run
    assert run.steps[1]["actor/grad_norm"] == pytest.approx(reference_norms["balanced"], rel=1e-4)


# One rank is in tests/end_to_end/test_trainer_modes.py, too.
@pytest.mark.parametrize("ranks", [pytest.param(1, marks=pytest.mark.evidence), 2])
def test_every_mode_and_split_has_the_reference_gradient_norm(first_run, reference_norms, ranks, tmp_path):
    _, recorded = first_run
    steps = range(1, len(SETTINGS) + 1)
    run = train(
        "arithmetic",
        tmp_path,
        *SMALL,
        f"trainer.n_gpus_per_node={ranks}",
        f"trainer.total_training_steps={len(SETTINGS)}",
        "actor_rollout_ref.actor.optim.lr=0",
        *replay(recorded, *steps),
        environment={"VERL_USE_EXTERNAL_MODULES": "tests.end_to_end.settings_by_step"},
    )
    assert run.returncode == 0, run.log[-5000:]
    for step, (mode, split) in zip(steps, SETTINGS, strict=True):
        logged = run.steps[step]["actor/grad_norm"]
        print(f"{ranks} ranks, {mode}, {split}: {logged:.6f} logged, {reference_norms[mode]:.6f} reference")
        assert logged == pytest.approx(reference_norms[mode], rel=1e-4), (mode, split)
        # At ratio 1 what the driver expects each aggregation's loss to be is what the actor then trains with.
        drift = run.steps[step][f"aggregation/{mode_name(mode)}/drift"]
        assert run.steps[step]["actor/pg_loss"] == pytest.approx(drift, abs=1e-5), (mode, split)
