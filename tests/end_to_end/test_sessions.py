"""Responses of several rows, each a session of an agent loop, in verl's three V1 trainers."""

from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from transformers import AutoTokenizer

from balanced_agg.arithmetic.problems import is_correct
from tests.end_to_end.dumps import check_dump
from tests.end_to_end.launch import SMALL, train
from tests.end_to_end.reference import gradient_norms, groups_of, weights_and_advantages

pytestmark = pytest.mark.slow

NAMES = {"balanced": "balanced", "group-token-mean": "token"}  # of aggregation modes in keys and metrics
PROMPTS, SESSIONS, MOST_ROWS, LONGEST_ROW = 4, 16, 4, 16
SESSIONS_AT_FIRST = 4  # of a prompt; they are then one optimizer step: 4 sessions of 4 rows are the 16 verl counts on
MINI_BATCH = PROMPTS * SESSIONS  # rows of an optimizer step, as verl counts
SETTINGS = {
    "sync": [
        "aggregation=balanced",
        "trainer.n_gpus_per_node=2",
        "trainer.total_training_steps=2",
        "actor_rollout_ref.rollout.agent.default_agent_loop=in_pieces_few_at_first",
    ],
    # Sessions that are on their way at the first update go on with other weights, in the row they have begun.
    "colocate_async": [
        "aggregation=token",
        "trainer.total_training_steps=2",
        "trainer.v1.colocate_async.num_warmup_batches=0.5",
        "actor_rollout_ref.actor.use_dynamic_bsz=true",
        "actor_rollout_ref.actor.ppo_max_token_len_per_gpu=200",
    ],
    "separate_async": [
        "aggregation=balanced",
        "balanced_agg.whole_groups=true",
        "trainer.total_training_steps=1",
        "trainer.v1.separate_async.num_warmup_batches=0.5",
        "trainer.v1.separate_async.parameter_sync_step=2",
        f"data.train_batch_size={2 * PROMPTS}",
        "actor_rollout_ref.rollout.nnodes=1",
        "actor_rollout_ref.rollout.checkpoint_engine.backend=gloo",
        "ray_kwargs.ray_init.num_gpus=2",
    ],
}


# The others are in test_trainer_modes.py, too, with responses of one row.
@pytest.fixture(
    scope="module",
    params=["sync", *(pytest.param(f"{kind}_async", marks=pytest.mark.evidence) for kind in ("colocate", "separate"))],
)
def trained(request, tmp_path_factory, arithmetic_model):
    """A run in one trainer mode at a learning rate of 0, and the batches of its updates, in order."""
    folder = tmp_path_factory.mktemp(request.param)
    run = train(
        "arithmetic",
        folder / "run",
        *SMALL,
        "actor_rollout_ref.rollout.agent.agent_loop_config_path=tests/end_to_end/agent_loops.yaml",
        "actor_rollout_ref.rollout.agent.default_agent_loop=in_pieces",
        f"actor_rollout_ref.rollout.n={SESSIONS}",
        f"data.max_prompt_length={15 + MOST_ROWS * LONGEST_ROW}",
        f"data.max_response_length={LONGEST_ROW}",
        "actor_rollout_ref.actor.optim.lr=0",
        f"trainer.v1.trainer_mode={request.param}",
        f"trainer.rollout_data_dir={folder}/rollouts",
        *SETTINGS[request.param],
        environment={"VERL_USE_EXTERNAL_MODULES": "tests.end_to_end.updates", "UPDATES_DIR": str(folder)},
    )
    assert run.returncode == 0, run.log[-5000:]
    files = sorted(folder.glob("batch-*.pt"))
    return SimpleNamespace(
        trainer_mode=request.param,
        mode="group-token-mean" if request.param == "colocate_async" else "balanced",
        ranks=2 if request.param == "sync" else 1,
        run=run,
        files=files,
        batches=[torch.load(file, weights_only=False) for file in files],
    )


def steps_of_rows(trained: SimpleNamespace, batch: dict) -> list[int]:
    """The optimizer step of each row: verl deals the batch to ranks in its order, and their parts to mini-batches."""
    of_rank = len(batch["keys"]) // trained.ranks
    return [row % of_rank // (MINI_BATCH // trained.ranks) for row in range(len(batch["keys"]))]


def sessions_of(batch: dict) -> list[list[int]]:
    """The rows of each session."""
    return [rows for sessions in groups_of(batch["keys"]) for rows in sessions]


def test_sessions_differ_in_their_rows_and_come_in_one_optimizer_step_or_several(trained):
    assert trained.run.leftover == []
    assert len(trained.batches) == 2
    rows_of_sessions = [
        [len(rows) for rows in sessions] for batch in trained.batches for sessions in groups_of(batch["keys"])
    ]
    assert max(map(max, rows_of_sessions)) <= MOST_ROWS
    assert any(len(set(rows)) > 1 for rows in rows_of_sessions)
    few = SESSIONS_AT_FIRST if trained.trainer_mode == "sync" else SESSIONS
    assert [len(rows) for rows in rows_of_sessions] == [few] * PROMPTS + [SESSIONS] * PROMPTS
    first, second = (steps_of_rows(trained, batch) for batch in trained.batches)
    assert (max(first) == 0) == (trained.trainer_mode == "sync")
    assert max(second) > 0
    # On one rank verl leaves the rows of a session side by side. On two it does so often, and cuts a session of three
    # rows or more at most ends of an optimizer step, of which there are some six.
    if trained.ranks > 1:
        assert any(len({second[row] for row in rows}) > 1 for rows in sessions_of(trained.batches[1]))


def test_every_update_has_the_reference_gradient_norm(trained, arithmetic_model):
    for update, (file, batch) in enumerate(zip(trained.files, trained.batches, strict=True)):
        norms = gradient_norms(arithmetic_model, file, trained.mode, steps_of_rows(trained, batch))
        reference, logged = sum(norms) / len(norms), batch["metrics"]["actor/grad_norm"]
        print(f"{trained.trainer_mode}, update {update}, {len(norms)} steps: {logged:.6f} logged, {reference:.6f} ours")
        assert logged == pytest.approx(reference, rel=1e-4), update


def test_length_divisors_are_those_of_sessions_for_a_mean_over_rows(trained):
    for batch in trained.batches:
        weights, _ = weights_and_advantages(trained.mode, batch)
        divisors = batch["tensordict"]["length_divisor"]
        for rows in sessions_of(batch):
            assert len({float(divisors[row]) for row in rows}) == 1
            assert float(divisors[rows[0]]) * len(batch["keys"]) == pytest.approx(1 / weights[rows[0]])


def test_all_rows_of_a_session_have_the_score_of_the_last(trained, arithmetic_model):
    tokenizer = AutoTokenizer.from_pretrained(arithmetic_model)
    for batch in trained.batches:
        data = batch["tensordict"]
        rewards = [float(row.sum()) for row in data["rm_scores"].unbind()]
        for rows in sessions_of(batch):
            text = tokenizer.decode(data["responses"][rows[-1]], skip_special_tokens=True)
            answer = data["reward_model"][rows[-1]]["ground_truth"]
            assert {rewards[row] for row in rows} == {float(is_correct(text, answer))}


def test_logged_measures_are_those_of_sessions(trained):
    for step, logged in trained.run.steps.items():
        batches = [batch for batch in trained.batches if batch["step"] == step]
        for mode, name in NAMES.items():
            # Of each session of the step: its advantage, its length, and the share of the loss it would have at A = -1.
            sessions = [
                (advantages[rows[0]], length, length * weights[rows[0]] / len(batches))
                for batch in batches
                for weights, advantages in [weights_and_advantages(mode, batch)]
                for rows in sessions_of(batch)
                for length in [sum(int(batch["tensordict"]["response_mask"][row].sum()) for row in rows)]
            ]
            positive = sum(a * mass for a, _, mass in sessions if a > 0)
            negative = -sum(a * mass for a, _, mass in sessions if a < 0)
            drift, share = negative - positive, positive / (negative + positive)
            assert logged[f"aggregation/{name}/positive_share"] == pytest.approx(share, rel=1e-4)
            assert logged[f"aggregation/{name}/drift"] == pytest.approx(drift, abs=1e-5)
            lengths = [length for a, length, _ in sessions if a > 0]
            assert logged["aggregation/positive_length"] == pytest.approx(sum(lengths) / len(lengths), rel=1e-4)
        assert logged["aggregation/balanced/drift"] == pytest.approx(0, abs=1e-5)
        assert abs(logged["aggregation/token/drift"]) > 1e-3
        # The optimizer steps of a batch together have its loss.
        drift = logged[f"aggregation/{NAMES[trained.mode]}/drift"]
        assert logged["actor/pg_loss"] == pytest.approx(drift, abs=1e-5)


def test_logged_measures_of_optimizer_steps_are_those_of_their_rows(trained):
    for step, logged in trained.run.steps.items():
        shares, cut = [], []
        for batch in (batch for batch in trained.batches if batch["step"] == step):
            step_of = steps_of_rows(trained, batch)
            weights, advantages = weights_and_advantages(trained.mode, batch)
            mass = {
                row: abs(advantages[row]) * weight * int(batch["tensordict"]["response_mask"][row].sum())
                for row, weight in weights.items()
            }
            for number in range(max(step_of) + 1):
                acting = [row for row in mass if step_of[row] == number and mass[row]]
                if acting:
                    positive = sum(mass[row] for row in acting if advantages[row] > 0)
                    shares.append(positive / sum(mass[row] for row in acting))
            for sessions in groups_of(batch["keys"]):
                cut.append(len({step_of[row] for rows in sessions for row in rows}) > 1)
        assert logged["aggregation/step_positive_share_min"] == pytest.approx(min(shares), rel=1e-4)
        assert logged["aggregation/step_positive_share_max"] == pytest.approx(max(shares), rel=1e-4)
        assert logged["aggregation/cut_groups"] == sum(cut) / len(cut)
        if trained.trainer_mode == "separate_async":
            assert not any(cut)
            assert shares == pytest.approx([0.5] * len(shares), rel=1e-4)


def test_missing_responses_are_missing_sessions(trained):
    came = Counter()
    for batch in trained.batches:
        came[batch["step"]] += len(sessions_of(batch))
    expected = PROMPTS * SESSIONS * len(trained.batches) // len(trained.run.steps)
    for step, logged in trained.run.steps.items():
        assert logged["rollout/missing"] == expected - came[step]
        assert logged["reward/defaulted"] == 0


def has_special_token(batch: dict, model: Path) -> bool:
    """Whether a response holds another special token than its end."""
    tokenizer = AutoTokenizer.from_pretrained(model)
    special = {*tokenizer.all_special_ids} - {tokenizer.eos_token_id}
    return any(special & {*row.tolist()} for row in batch["tensordict"]["responses"].unbind())


def test_inspect_finds_in_the_dumped_rollouts_what_the_run_logged(trained, arithmetic_model, capsys):
    dump = trained.run.dir.parent / "rollouts"
    incomplete = {batch["step"] for batch in trained.batches if has_special_token(batch, arithmetic_model)}
    check_dump(trained.run, dump, arithmetic_model, LONGEST_ROW, incomplete, capsys)
