"""Loaded into every verl process of a test run: rollouts fail at step 4, and one is empty at step 5."""

from contextvars import ContextVar

from tests.wrapping import wrap_when_imported

_groups: dict[int, list[str]] = {}  # of each step, in order of appearance
_empty = ContextVar("empty", default=False)


async def _fail_or_empty(wrapped, loop, args, kwargs):
    step = int(kwargs["global_steps"])
    groups = _groups.setdefault(step, [])
    if kwargs["uid"] not in groups:
        groups.append(kwargs["uid"])
    group, session = groups.index(kwargs["uid"]), kwargs["session_id"]
    # The first group loses all of its responses, the second all but one.
    if step == 4 and (group == 0 or (group == 1 and session > 0)):
        raise ConnectionError("the rollout server did not answer")
    _empty.set(step == 5 and group == 0 and session == 0)
    return await wrapped(*args, **kwargs)


async def _without_tokens(wrapped, client, args, kwargs):
    output = await wrapped(*args, **kwargs)
    if _empty.get():
        output.token_ids, output.log_probs = [], []
    return output


wrap_when_imported("verl.experimental.agent_loop.single_turn_agent_loop", "SingleTurnAgentLoop.run", _fail_or_empty)
wrap_when_imported("verl.workers.rollout.llm_server", "LLMServerClient.generate", _without_tokens)
