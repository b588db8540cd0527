"""The agent loop of our recipes asks for token ids once, and gives what verl's own gives."""

import asyncio
import json

import numpy as np
import pytest
from verl.experimental.agent_loop.agent_loop import AgentLoopWorker
from verl.workers.rollout.replica import TokenOutput

from balanced_agg.arithmetic.tokenizer import build_tokenizer
from balanced_agg.plugin.checks.values import OUR_LOOPS
from balanced_agg.plugin.token_ids import NAMES, seed_of
from tests.composed import compose_recipe

CONFIG = {"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"], "vocab_size": 64}


class Client:
    """verl's client of the rollout servers, as far as a loop uses it: answers 1 2 3, and keeps what it was asked."""

    async def generate(self, sampling_params, **kwargs) -> TokenOutput:
        self.asked = sampling_params
        return TokenOutput(token_ids=[1, 2, 3], log_probs=[-0.5, -0.25, -0.125], stop_reason="completed")


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """Run a response by verl's own worker of a recipe; what the loop returned, and what it asked for."""
    model = tmp_path_factory.mktemp("model")
    build_tokenizer().save_pretrained(model)
    (model / "config.json").write_text(json.dumps(CONFIG))

    def run(*overrides: str, row: dict | None = None, **sampling):
        config = compose_recipe("arithmetic", f"actor_rollout_ref.model.path={model}", *overrides)

        async def respond():
            worker = AgentLoopWorker(config, Client())

            async def as_it_is(output, *rest, **kwargs):
                return output

            worker._agent_loop_postprocess = as_it_is
            trajectory = {"step": 0, "sample_index": 0, "rollout_n": 0, "validate": False}
            prompt = np.array([{"role": "user", "content": "1+1="}], dtype=object)
            name = config.actor_rollout_ref.rollout.agent.default_agent_loop
            given = {"raw_prompt": prompt} | (row or {})
            output = await worker._run_agent_loop(dict(sampling), trajectory, agent_name=name, **given)
            return output, worker.llm_client.asked

        return asyncio.run(respond())

    return run


@pytest.mark.parametrize("hardware", ["cpu", "1gpu"])
def test_a_recipe_asks_for_token_ids_once(ran, hardware):
    output, asked = ran(f"hardware={hardware}", temperature=1.0)
    assert asked.pop("output_kind").name == "FINAL_ONLY"
    assert asked == {"detokenize": False, "temperature": 1.0}
    verls, by_default = ran(
        f"hardware={hardware}", "actor_rollout_ref.rollout.agent.default_agent_loop=single_turn_agent", temperature=1.0
    )
    assert by_default == {"temperature": 1.0}
    for part in ("prompt_ids", "response_ids", "response_mask", "response_logprobs", "num_turns"):
        assert getattr(output, part) == getattr(verls, part)


def test_what_is_asked_for_stays_and_a_stop_string_needs_words(ran):
    _, asked = ran("hardware=1gpu", stop=["\n"])
    assert asked["detokenize"] is True
    _, asked = ran("hardware=1gpu", detokenize=True, output_kind="mine")
    assert asked == {"detokenize": True, "output_kind": "mine"}


def test_another_engine_is_asked_as_verl_asks_it(ran):
    assert ran("hardware=1gpu", "actor_rollout_ref.rollout.name=sglang", temperature=1.0)[1] == {"temperature": 1.0}


def test_an_external_lib_of_the_users_stands_beside_ours(ran):
    libraries = "actor_rollout_ref.model.external_lib=[json,balanced_agg.plugin.token_ids]"
    assert ran("hardware=1gpu", libraries, temperature=1.0)[1]["detokenize"] is False


SEEDED = "actor_rollout_ref.rollout.agent.default_agent_loop=seeded_token_ids"
ROW = {"global_steps": 3, "session_id": 5}


def test_a_seeded_response_has_a_seed_of_its_run_step_number_and_prompt(ran):
    other = np.array([{"role": "user", "content": "1+2="}], dtype=object)
    rows = [ROW, ROW | {"global_steps": 4}, ROW | {"session_id": 6}, ROW | {"raw_prompt": other}]
    seeds = [ran("hardware=1gpu", SEEDED, row=row)[1]["seed"] for row in rows]
    seeds.append(ran("hardware=1gpu", SEEDED, "run.seed=7", row=ROW)[1]["seed"])
    assert len({*seeds}) == 5 and all(0 <= seed < 2**63 for seed in seeds)
    _, again = ran("hardware=1gpu", SEEDED, row=ROW | {"uid": "another"}, temperature=1.0)
    assert again["seed"] == seeds[0]
    assert again["detokenize"] is False and again["temperature"] == 1.0
    assert ran("hardware=1gpu", SEEDED, row=ROW, seed=1)[1]["seed"] == 1


def test_the_launch_checks_know_these_loops():
    assert OUR_LOOPS == NAMES


def test_the_seeds_are_the_same_in_every_process():
    assert seed_of([1, 3, 5, [{"role": "user", "content": "1+1="}]]) == 3223079044202686972


def test_another_engine_has_no_seeded_responses(ran):
    with pytest.raises(ValueError, match=r"needs actor_rollout_ref\.rollout\.name=vllm"):
        ran("hardware=1gpu", SEEDED, "actor_rollout_ref.rollout.name=sglang", row=ROW)
