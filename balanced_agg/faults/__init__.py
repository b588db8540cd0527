"""What a run does about scores and responses that never came.

A response whose reward function raises, exceeds ``reward.timeout`` or returns no finite number scores 0, like a wrong
one: a response that breaks its grader must not be better off than one that is graded. It is counted in every step and
every validation, and a step in which most scores are such defaults stops the run before it is trained on. A response
that never came (its rollout failed) is in no group; it is counted too.
"""
