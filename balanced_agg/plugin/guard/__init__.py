"""A run survives faults of its graders and servers, and kills. What is wrapped for it stands in in_verl.py.

A response whose reward function raises, exceeds ``reward.timeout`` or returns no finite number scores 0, like a wrong
one: a response that breaks its grader must not be better off than one that is graded. It is counted in every step and
every validation, and a step in which most scores are such fallbacks stops the run before it is trained on. A response
that never came (its rollout failed) is in no group; it is counted too.

A run that was killed resumes with the same command, from its last complete checkpoint, and its log has each step once.

verl writes a checkpoint file by file and names it in ``latest_checkpointed_iteration.txt``. Killed at the wrong moment,
it leaves that file empty, or has already deleted the one checkpoint that the file names. So each checkpoint carries a
mark of its own (checkpoints.py), old ones are deleted once the new one has it, and the log is truncated to the step
that the run resumes from (loggers.py). A run one of whose processes was killed ends instead of waiting for it for
ever (waiting.py). Runs at the same time share neither weights nor a folder (isolation.py).

This holds against the end of any process, not against a loss of power: nothing waits for the disk.
"""
