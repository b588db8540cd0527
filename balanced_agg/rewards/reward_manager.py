"""verl's `dapo` reward manager, which also measures the response it grades."""

from typing import Any

from verl import DataProto
from verl.experimental.reward_loop.reward_manager.dapo import DAPORewardManager


class MeasuringRewardManager(DAPORewardManager):
    """Adds to the reward's extra info, which verl dumps with each validation sample:

    - ``data_source``: the row's;
    - ``response_tokens``: length of the response, its end-of-sequence token included;
    - ``truncated``: 1.0 if it ran into ``data.max_response_length`` without ending, else 0.0.
    """

    async def run_single(self, data: DataProto) -> dict[str, Any]:
        result = await super().run_single(data)
        sample = data[-1]
        responses = sample.batch["responses"]
        tokens = int(sample.batch["attention_mask"][-len(responses) :].sum())
        ended = tokens > 0 and int(responses[tokens - 1]) == self.tokenizer.eos_token_id
        result["reward_extra_info"] |= {
            "data_source": sample.non_tensor_batch["data_source"],
            "response_tokens": float(tokens),
            "truncated": float(tokens >= self.config.data.max_response_length and not ended),
        }
        return result
