"""A real sweep of the recipe `search`, cut short by Ctrl-C in its first run and started again.

Checkout and runs are in awkward folders.
"""

import json
import os
import signal
import subprocess
import time
import uuid

import pytest

from balanced_agg.runs.file_log import merge, read_records
from tests.end_to_end.launch import DEADLINE, ROOT, launch, wait_for_end

pytestmark = pytest.mark.slow

KEY = "0123456789abcdef0123456789abcdef01234567"
OVERRIDES = [
    "data.train_batch_size=4",
    "actor_rollout_ref.actor.ppo_mini_batch_size=4",
    "trainer.total_training_steps=3",
    "trainer.test_freq=1",
    "trainer.save_freq=1",
]


def interrupt_behind_its_first_step(script: str, arguments: list[str], run) -> list[int]:
    """Start the sweep, press Ctrl-C once `run` has logged a step; the processes that outlive it."""
    mark = uuid.uuid4().hex
    command = ["bash", script, *arguments]
    environment = os.environ | {"BALANCED_AGG_TEST_RUN": mark, "PYTHONPATH": str(ROOT), "WANDB_API_KEY": KEY}
    sweep = subprocess.Popen(command, env=environment, start_new_session=True, stderr=subprocess.DEVNULL)
    until = time.monotonic() + DEADLINE
    # verl saves a step's checkpoint before it logs the step.
    while not ((run / "metrics.jsonl").exists() and b"actor/grad_norm" in (run / "metrics.jsonl").read_bytes()):
        assert sweep.poll() is None and time.monotonic() < until, (run / "log.txt").read_text()[-5000:]
        time.sleep(0.2)
    os.killpg(sweep.pid, signal.SIGINT)
    assert sweep.wait(timeout=DEADLINE) != 0
    return wait_for_end(mark)


def test_a_sweep_that_was_interrupted_resumes_and_ends_in_a_comparison(tmp_path, search_task):
    checkout, folder = tmp_path / "jörg's [check] out, {1}", tmp_path / 'jörg\'s runs, (a=1) & more; "x"'
    checkout.symlink_to(ROOT)  # so that the interpreter's path is in it, too
    script = str(checkout / "scripts/sweep.sh")
    runs = [folder / f"search-{mode}-seed1" for mode in ("balanced", "seq-mean-token-mean")]
    arguments = [
        "search",
        "--aggregations",
        "balanced",
        "sequence",
        "--seeds",
        "1",
        "--dir",
        str(folder),
        f"search.dir={search_task}",
        *OVERRIDES,
    ]

    assert interrupt_behind_its_first_step(script, arguments, runs[0]) == []
    before = merge(read_records(runs[0] / "metrics.jsonl")[0])
    assert not runs[1].exists()

    done = launch(tmp_path / "sweep", script, *arguments, environment={"WANDB_API_KEY": KEY})
    assert done.returncode == 0, done.log[-5000:]
    assert "resumes" in done.log and done.leftover == []

    after = merge(read_records(runs[0] / "metrics.jsonl")[0])
    assert before[0] == after[0]
    other = merge(read_records(runs[1] / "metrics.jsonl")[0])
    # The responses are seeded: at equal weights, those of the second run are those of the first.
    assert other[0]["val-core/search/acc/mean@4"] == before[0]["val-core/search/acc/mean@4"]
    for metric in ("response_length/mean", "critic/score/mean", "aggregation/length_gap_within_group"):
        assert other[1][metric] == pytest.approx(before[1][metric], rel=1e-6)
    assert before[1]["actor/grad_norm"] == after[1]["actor/grad_norm"], "it started again from scratch"
    for run in runs:
        lines = (run / "metrics.jsonl").read_text().splitlines()
        assert [json.loads(line)["step"] for line in lines] == [0, 1, 2, 3]
        steps = merge(read_records(run / "metrics.jsonl")[0])
        assert all("aggregation/token/positive_share" in steps[step] for step in (1, 2, 3))
        assert all("val-core/search/acc/mean@4" in steps[step] for step in (0, 1, 2, 3))

    report = folder / "search-comparison"
    assert (report / "report.html").is_file() and (report / "comparison.png").is_file()
    assert all(run.name in (report / "report.html").read_text() for run in runs)
    assert [path for path in tmp_path.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()] == []
