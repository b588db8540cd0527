"""An agent loop that asks vLLM for a response's token ids once, when it is complete.

verl's own has vLLM hand over a response anew with each token, in words too, and reads the last. That takes 42 us of a
CPU thread for each token, in the one process of a replica that does it, so that a GPU gives 24 000 tokens a second at
most, however fast it is; this way it takes 8 us (vLLM 0.28, 256 responses at once). On 2 cores without a GPU a step of
64 responses takes 18 % longer without it (docs/cost.md).

``actor_rollout_ref.model.external_lib`` names this module, which verl imports wherever it reads the model's config,
its agent loop workers among them, and ``actor_rollout_ref.rollout.agent.default_agent_loop`` the loop. An agent loop
of yours takes its place by that key; an ``external_lib`` of yours stands beside ours in a list.
"""

from typing import Any

from verl.experimental.agent_loop import SingleTurnAgentLoop
from verl.experimental.agent_loop.agent_loop import AgentLoopOutput, register

NAME = "token_ids"


@register(NAME)
class TokenIds(SingleTurnAgentLoop):
    """verl's single turn; with another engine than vLLM nothing else."""

    async def run(self, sampling_params: dict[str, Any], **kwargs: Any) -> AgentLoopOutput:
        if self.rollout_config.name == "vllm":
            from vllm.sampling_params import RequestOutputKind

            # Where a stop string is to be found, vLLM must know the words.
            words = bool(sampling_params.get("stop"))
            sampling_params = {"output_kind": RequestOutputKind.FINAL_ONLY, "detokenize": words} | sampling_params
        return await super().run(sampling_params, **kwargs)
