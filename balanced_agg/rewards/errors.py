"""What a grader raises when it reached no judgement."""


class GraderFailed(Exception):
    """No judgement about a response was reached: time limit, memory limit or crash of the grading process.

    A wrong response is never reported this way, and neither is a wrong argument, which is a ValueError.
    """
