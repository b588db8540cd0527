"""An agent loop that asks vLLM for a response's token ids once, when it is complete.

verl's own has vLLM hand over a response anew with each token, in words too, and reads the last. That takes 42 us of a
CPU thread for each token, in the one process of a replica that does it, so that a GPU gives 24 000 tokens a second at
most, however fast it is; this way it takes 8 us (vLLM 0.28, 256 responses at once). On 2 cores without a GPU a step of
64 responses takes 18 % longer without it (docs/cost.md).

``actor_rollout_ref.model.external_lib`` names this module, which verl imports wherever it reads the model's config,
its agent loop workers among them, and ``actor_rollout_ref.rollout.agent.default_agent_loop`` the loop. An agent loop
of yours takes its place by that key; an ``external_lib`` of yours stands beside ours in a list.

A second one, ``seeded_token_ids``, also gives each response a seed of its own.
"""

import json
from hashlib import blake2b
from typing import Any

from verl.experimental.agent_loop import SingleTurnAgentLoop
from verl.experimental.agent_loop.agent_loop import AgentLoopOutput, register

NAMES = PLAIN, SEEDED = "token_ids", "seeded_token_ids"


@register(PLAIN)
class TokenIds(SingleTurnAgentLoop):
    """verl's single turn; with another engine than vLLM nothing else."""

    async def run(self, sampling_params: dict[str, Any], **kwargs: Any) -> AgentLoopOutput:
        if self.rollout_config.name == "vllm":
            from vllm.sampling_params import RequestOutputKind

            # Where a stop string is to be found, vLLM must know the words.
            words = bool(sampling_params.get("stop"))
            sampling_params = {"output_kind": RequestOutputKind.FINAL_ONLY, "detokenize": words} | sampling_params
        return await super().run(sampling_params, **kwargs)


@register(SEEDED)
class SeededTokenIds(TokenIds):
    """The same with a seed a response: runs of one ``rollout.seed`` draw alike for as long as their weights are equal.

    Without, vLLM draws all responses from one stream of random numbers, in the order in which they come in: two runs
    differ from their first step on. With it, they differ where rounding moves a probability across what was drawn.
    verl's own ``rollout.full_determinism`` gives all responses of a run one seed, so that those to a prompt are equal.

    ValueError: another engine than vLLM.
    """

    async def run(self, sampling_params: dict[str, Any], **kwargs: Any) -> AgentLoopOutput:
        if self.rollout_config.name != "vllm":
            raise ValueError(f"the agent loop {SEEDED} needs actor_rollout_ref.rollout.name=vllm")
        drawn = [self.rollout_config.seed, kwargs["global_steps"], kwargs["session_id"], list(kwargs["raw_prompt"])]
        return await super().run({"seed": seed_of(drawn)} | sampling_params, **kwargs)


def seed_of(parts: list[Any]) -> int:
    """A number of 63 bits, which torch takes for a seed; the same in every process, for equal parts."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big") >> 1
