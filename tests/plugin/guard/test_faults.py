"""The guard in verl's own classes: what a user's reward function does, and what the trainer then sees."""

import asyncio
import math
from types import SimpleNamespace

import pytest
import torch
from ray.exceptions import ActorDiedError
from tensordict import TensorDict
from tensordict.tensorclass import NonTensorStack
from verl.experimental.agent_loop.agent_loop import AgentLoopMetrics, AgentLoopOutput, AgentLoopWorker
from verl.experimental.reward_loop.reward_loop import RewardLoopWorker

from balanced_agg.arithmetic.tokenizer import build_tokenizer
from balanced_agg.plugin.guard import faults as in_verl
from balanced_agg.plugin.guard.scores import REASON, guarded
from tests.composed import compose_recipe

# What a function in a user's file may do, by the prompt's ground truth.
FUNCTION = """
import threading

{async_}def compute_score(data_source, solution_str, ground_truth, extra_info=None):
    if ground_truth == "raises":
        raise ValueError("boom")
    if ground_truth == "hangs":
        {hang}
    garbage = {{"nan": float("nan"), "inf": float("inf"), "none": None, "string": "1", "wrong dict": {{"acc": 1.0}}}}
    return garbage.get(ground_truth, {{"score": 0.5, "acc": 1.0, "format": 1.0}})
"""
KINDS = {
    "synchronous": FUNCTION.format(async_="", hang="threading.Event().wait()"),
    "asynchronous": FUNCTION.format(async_="async ", hang="import asyncio; await asyncio.Event().wait()"),
}
TEXT = "#7"


def handle(compute_score) -> SimpleNamespace:
    """An async function as that of a Ray actor."""
    return SimpleNamespace(compute_score=SimpleNamespace(remote=compute_score))


@pytest.fixture(scope="module", params=KINDS)
def worker(request, tmp_path_factory):
    """verl's agent loop worker, as far as it scores, with a reward worker that has the user's function."""
    folder = tmp_path_factory.mktemp("reward")
    (folder / "reward.py").write_text(KINDS[request.param])
    build_tokenizer().save_pretrained(folder / "model")
    config = compose_recipe(
        "arithmetic",
        f"reward.custom_reward_function.path={folder}/reward.py",
        f"actor_rollout_ref.model.path={folder}/model",
        "reward.timeout=0.5",
    )
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield agent_loop_worker(loop, handle(RewardLoopWorker(config).compute_score))
    asyncio.set_event_loop(None)
    loop.close()


def agent_loop_worker(loop, reward_worker) -> AgentLoopWorker:
    worker = AgentLoopWorker.__new__(AgentLoopWorker)
    worker.reward_loop_worker_handles = [guarded(reward_worker)]
    worker.processor = worker.mm_processor_kwargs = None
    worker.loop = loop
    return worker


def scored(worker, *truths: str) -> list[AgentLoopOutput]:
    """Responses as verl's agent loop leaves them, all scored at once."""
    tokens = build_tokenizer().encode(TEXT)

    def response() -> AgentLoopOutput:
        return AgentLoopOutput(
            prompt_ids=[1],
            response_ids=tokens,
            response_mask=[1] * len(tokens),
            num_turns=2,
            metrics=AgentLoopMetrics(),
        )

    async def score(response, truth):
        fields = {"data_source": "mine", "reward_model": {"ground_truth": truth}, "extra_info": {}, "raw_prompt": []}
        await worker._compute_score([response], kwargs=fields)

    async def score_all():
        await asyncio.gather(*map(score, responses, truths))

    responses = [response() for _ in truths]
    worker.loop.run_until_complete(score_all())
    return responses


FAULTS = {
    "raises": "ValueError: boom",
    "hangs": "TimeoutError: no score within 0.5 s",
    "nan": "returned nan",
    "inf": "returned inf",
    "none": "returned None",
    "string": "returned '1'",
    "wrong dict": "KeyError: 'score'",
}


def test_a_good_score_is_left_alone_and_said_to_be_good(worker):
    (response,) = scored(worker, "8")
    assert response.reward_score == 0.5
    assert response.extra_fields["reward_extra_info"] == {"score": 0.5, "acc": 1.0, "format": 1.0, "grader_failed": 0.0}


def test_each_fault_scores_zero_and_says_why_and_its_neighbours_are_graded(worker):
    responses = scored(worker, *(truth for fault in FAULTS for truth in (fault, "8")))
    for (fault, why), failed, neighbour in zip(FAULTS.items(), responses[::2], responses[1::2], strict=True):
        assert failed.as_dict()["rm_scores"].tolist() == [0.0, 0.0], fault
        reported = failed.extra_fields["reward_extra_info"]
        assert why in reported.pop(REASON)
        assert reported == {"data_source": "mine", "score": 0.0, "acc": 0.0, "format": 0.0, "grader_failed": 1.0}
        assert neighbour.as_dict()["rm_scores"][-1] == 0.5


@pytest.mark.slow
def test_more_hanging_calls_than_verl_has_threads_keep_no_other_from_a_score(worker):
    responses = scored(worker, *["hangs"] * 40, "8")
    assert [response.reward_score for response in responses] == [0.0] * 40 + [0.5]


def test_what_verls_rate_limited_manager_defaults_is_counted(worker):
    async def compute_score(data):
        return {"reward_score": 0.0, "reward_extra_info": {"acc": 0.0, "timeout": True}}

    (response,) = scored(agent_loop_worker(worker.loop, handle(compute_score)), "8")
    assert response.extra_fields["reward_extra_info"]["grader_failed"] == 1.0


def test_a_worker_that_died_costs_the_scores_that_it_owed(worker):
    async def compute_score(data):
        raise ActorDiedError()

    (response,) = scored(agent_loop_worker(worker.loop, handle(compute_score)), "8")
    assert response.reward_score == 0.0
    assert response.extra_fields["reward_extra_info"]["grader_failed"] == 1.0


@pytest.fixture
def trainer(monkeypatch):
    """A driver in front of a TransferQueue with 4 responses and a padding row that is a copy of the first."""
    rows = {f"a_{i}_0": {"failed": 0.0, "score": 1.0} for i in range(4)}

    def kv_batch_get(keys, partition_id, select_fields):
        extra = [
            {"reward_extra_info": {"grader_failed": rows[key]["failed"], REASON: f"ValueError: {key}"}} for key in keys
        ]
        scores = [torch.tensor([0.0, rows[key]["score"]]) for key in keys]
        fields = {
            "extra_fields": NonTensorStack(*extra),
            "rm_scores": torch.nested.as_nested_tensor(scores, layout=torch.jagged),
        }
        return TensorDict({field: fields[field] for field in select_fields}, batch_size=len(keys))

    monkeypatch.setattr("transfer_queue.kv_batch_get", kv_batch_get)
    config = compose_recipe("arithmetic", "data.train_batch_size=2", "actor_rollout_ref.rollout.n=3")
    batch = SimpleNamespace(keys=[*rows, "pad_0_0"], tags=[{}] * 4 + [{"is_padding": True}], partition_id="train")
    return SimpleNamespace(config=config, parameter_sync_step=1, global_steps=3, batch=batch, rows=rows)


def advance(trainer) -> str:
    return in_verl.check_scores(lambda *_, **__: "advantages", trainer, (trainer.batch, {}), {})


def test_every_step_logs_what_is_missing_and_what_is_a_default(trainer):
    trainer.rows["a_1_0"]["failed"] = 1.0
    assert in_verl.fault_metrics(trainer, trainer.batch) == {
        "rollout/missing": 2,
        "reward/defaulted": 1,
        "reward/defaulted_share": 0.25,
    }
    assert advance(trainer) == "advantages"


@pytest.mark.parametrize(("failed", "stops"), [(0, False), (2, False), (3, True), (4, True)])
def test_a_step_with_mostly_fallbacks_is_not_trained_on(trainer, failed, stops):
    for key in list(trainer.rows)[:failed]:
        trainer.rows[key]["failed"] = 1.0
    if not stops:
        assert advance(trainer) == "advantages"
        return
    with pytest.raises(RuntimeError, match=rf"step 3: {failed} of 4 scores did not come.*ValueError: a_0_0"):
        advance(trainer)


def test_a_score_that_is_no_number_is_not_trained_on(trainer):
    trainer.rows["a_3_0"]["score"] = math.nan
    with pytest.raises(RuntimeError, match=r"step 3: .*not finite"):
        advance(trainer)
