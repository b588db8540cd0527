"""A user's reward function in which something else goes wrong at every training step, and in the first validation."""

import re
import threading
from collections import Counter

RESPONSES = 32  # of a step
GARBAGE = [float("nan"), float("inf"), None, "1", {"acc": 1.0}]

_calls = Counter()
_counting = threading.Lock()


def compute_score(data_source, solution_str, ground_truth, extra_info, **options):
    training = extra_info["split"] == "train"
    # The version of the weights that wrote the response is that of the step before.
    step = int(extra_info["max_global_steps"]) + 1 if training else 0
    with _counting:
        _calls[step] += 1
        call = _calls[step]
    if (step == 0 and call <= 4) or (step == 1 and call <= 3) or step == 8:
        raise LookupError(f"no answer for {ground_truth}")
    if step == 2 and call == 1:
        threading.Event().wait()
    if step == 2 and call == 2:
        while True:
            pass
    if step == 3 and call <= len(GARBAGE):
        return GARBAGE[call - 1]
    if step == 7 and call == RESPONSES:  # counted anew by the worker that takes over
        re.fullmatch("(a+)+", "a" * 60 + "b")
    score = 1.0 if step == 6 else float(solution_str.endswith(f"#{ground_truth}"))
    return {"score": score, "acc": score}
