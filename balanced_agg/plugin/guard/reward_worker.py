"""verl's reward worker as its callers see it, with a default in place of every score that does not come."""

from typing import Any

from balanced_agg.plugin.guard.scores import Defaults, checked

_defaults = Defaults()


class GuardedRewardWorker:
    """Stands for the handle of a reward worker (a Ray actor) where verl's agent loops ask it for scores.

    Here all that can go wrong with a score ends up: what the reward function raised or returned, the time limit, and
    a worker that has died.
    """

    def __init__(self, handle: Any):
        self.compute_score = _ComputeScore(handle)


class _ComputeScore:
    def __init__(self, handle: Any):
        self._handle = handle

    async def remote(self, data: Any) -> dict[str, Any]:
        """verl's ``reward_score`` and ``reward_extra_info`` of the last response in a DataProto; raises nothing."""
        data_source = str(data.non_tensor_batch["data_source"][-1])
        try:
            result = await self._handle.compute_score.remote(data)
            score = checked(result["reward_score"])
        except Exception as error:
            return {"reward_score": 0.0, "reward_extra_info": _defaults.replace(data_source, error)}
        reported = result.get("reward_extra_info", {})
        # verl's rate-limited manager scores 0 by itself, and says so under two keys of its own.
        by_verl = bool(reported.get("timeout") or reported.get("error"))
        reported = {"grader_failed": float(by_verl)} | reported
        _defaults.learn(data_source, reported)
        return {"reward_score": score, "reward_extra_info": reported}
