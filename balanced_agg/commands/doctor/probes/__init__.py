"""Each module asks one library what the doctor wants to know: ``probe(*arguments)`` returns what JSON can hold.

Run as ``python -m balanced_agg.commands.doctor.probes NAME ANSWER_FILE [ARGUMENTS…]``.
"""


def described(error: BaseException) -> str:
    """An exception in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())
