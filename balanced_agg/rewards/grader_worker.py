"""The process that `grader_processes` starts: ``python -m balanced_agg.rewards.grader_worker``.

It reads requests from standard input and writes replies to standard output; the first reply says that all
imports are done. It ends when its input does, that is with its parent, and a worker that is busy then is ended
by the kernel shortly after its time limit.
"""

import logging
import os
import resource
import signal
import sys
from typing import Any

from balanced_agg.rewards.messages import encode_message, read_message

# Enough for every ordinary expression (a warm worker has 70 MB), and no harm to the machine.
ADDRESS_SPACE_BYTES = 1024**3
# The parent kills at the limit; this is for a worker whose parent is gone.
ALARM_SECONDS_AFTER_LIMIT = 1.0


def main() -> None:
    """Serve until the input ends."""
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE_BYTES, ADDRESS_SPACE_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    logging.disable(logging.CRITICAL)
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb", buffering=0)
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 0)
    os.dup2(nowhere, 1)  # nothing that is printed here may look like a reply

    def reply(message: dict[str, Any]) -> None:
        replies.write(encode_message(message))

    try:
        from balanced_agg.rewards.equality import equals_any
    except ImportError as error:
        reply({"unusable": str(error)})
        return
    equals_any([r"\frac{x}{2} + \sqrt{3}"], r"x - \pi")  # the parser builds its tables at the first use
    reply({"ready": True})

    while (request := read_message(requests)) is not None:
        signal.setitimer(signal.ITIMER_REAL, request["time_limit"] + ALARM_SECONDS_AFTER_LIMIT)
        try:
            answer = {"equal": equals_any(request["golds"], request["answer"], request["relative_tolerance"])}
        except MemoryError:
            sys.exit("out of memory")
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"[:500]}
        signal.setitimer(signal.ITIMER_REAL, 0)
        reply(answer)


if __name__ == "__main__":
    main()
