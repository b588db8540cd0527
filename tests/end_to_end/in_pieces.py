"""An agent loop whose response is several rows: it goes on where the last piece was cut off."""

import math
from typing import Any
from uuid import uuid4

from verl.experimental.agent_loop.agent_loop import AgentLoopBase, AgentLoopOutput


class InPieces(AgentLoopBase):
    """Each piece is a row of at most data.max_response_length tokens and has the earlier ones in its prompt.

    The last piece is the one that ends the sequence, or the one numbered `most_pieces`; it is scored. The others carry
    one token more, which is not the model's and is masked, as a tool's answer would be.

    Of a prompt of the first training step only the first `sessions_at_first` sessions leave rows.
    """

    def __init__(self, *args: Any, most_pieces: int, sessions_at_first: float = math.inf, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.most_pieces, self.sessions_at_first = most_pieces, sessions_at_first

    async def run(self, sampling_params: dict[str, Any], **kwargs: Any) -> list[AgentLoopOutput]:
        if kwargs["global_steps"] == 1 and kwargs["session_id"] >= self.sessions_at_first:
            return []
        written = await self.ct_build_initial_tokens(list(kwargs["raw_prompt"]))
        end = self.tokenizer.eos_token_id
        pieces: list[AgentLoopOutput] = []
        ended = False
        while not ended and len(pieces) < self.most_pieces:
            answer = await self.server_manager.generate(
                request_id=uuid4().hex, prompt_ids=written, sampling_params=dict(sampling_params)
            )
            tokens = list(answer.token_ids)
            ended = tokens[-1] == end
            added = 0 if ended or len(pieces) + 1 == self.most_pieces else 1
            pieces.append(
                AgentLoopOutput(
                    prompt_ids=written,
                    response_ids=tokens + [end] * added,
                    response_mask=[1] * len(tokens) + [0] * added,
                    response_logprobs=list(answer.log_probs) + [0.0] * added,
                    num_turns=2,
                    metrics={},
                    extra_fields=answer.extra_fields,
                )
            )
            written = written + tokens
        return pieces
