"""The process that `grader_processes` starts: ``python -m balanced_agg.rewards.grader_worker CONNECTION``.

It answers requests, JSON objects that come over the connection with that file descriptor; the first reply says that all
imports are done. It ends when the connection does, that is with its parent, and a worker that is busy then is ended by
the kernel shortly after its time limit.
"""

import json
import logging
import resource
import signal
import sys
from multiprocessing.connection import Connection
from typing import Any

# Enough for every ordinary expression (a warm worker has 70 MB), and no harm to the machine.
ADDRESS_SPACE_BYTES = 1024**3
# The parent kills at the limit; this is for a worker whose parent is gone.
ALARM_SECONDS_AFTER_LIMIT = 1.0


def main(file_descriptor: int) -> None:
    """Serve until the connection ends."""
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE_BYTES, ADDRESS_SPACE_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    logging.disable(logging.CRITICAL)
    connection = Connection(file_descriptor)

    def reply(message: dict[str, Any]) -> None:
        connection.send_bytes(json.dumps(message).encode("ascii"))

    try:
        from balanced_agg.rewards.equality import answers_equal
    except ImportError as error:
        reply({"unusable": str(error)})
        return
    answers_equal(r"\frac{x}{2} + \sqrt{3}", r"x - \pi")  # the parser builds its tables at the first use
    reply({"ready": True})

    while True:
        try:
            request = json.loads(connection.recv_bytes())
        except (EOFError, ConnectionError):
            return
        signal.setitimer(signal.ITIMER_REAL, request["time_limit"] + ALARM_SECONDS_AFTER_LIMIT)
        try:
            said, tolerance = request["answer"], request["tolerance"]
            answer = {"equal": any(answers_equal(gold, said, tolerance) for gold in request["golds"])}
        except MemoryError:
            sys.exit("out of memory")
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"[:500]}
        signal.setitimer(signal.ITIMER_REAL, 0)
        reply(answer)


if __name__ == "__main__":
    main(int(sys.argv[1]))
