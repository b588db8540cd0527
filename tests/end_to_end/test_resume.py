"""A real run, one of whose processes is killed, started again with the same command."""

import pytest

from tests.end_to_end.kills import kill, logged_steps, prompts, start
from tests.tools.kill_and_resume import ORDER, check, do, report

pytestmark = pytest.mark.slow

STEPS = 3


def test_a_run_killed_in_the_middle_of_a_checkpoint_resumes_from_the_one_before(tmp_path, arithmetic_model):
    assert start(tmp_path, 1).returncode == 0
    killed = kill(tmp_path, STEPS, "checkpoint", "worker")
    assert (killed.step, killed.resumes_from, killed.leftover) == (2, 1, 0)
    assert killed.incomplete == {"global_step_2": "its writing was interrupted"}
    assert killed.seconds < 60
    assert "ActorDiedError" in killed.message
    assert logged_steps(tmp_path) == [1]

    run = start(tmp_path, STEPS)
    assert run.returncode == 0, run.log[-5000:]
    assert "global_step_2 is skipped: its writing was interrupted" in run.log
    assert logged_steps(tmp_path) == [1, 2, 3]
    # max_actor_ckpt_to_keep=1
    assert [path.name for path in (tmp_path / "checkpoints").glob("global_step_*")] == ["global_step_3"]
    begun = prompts(tmp_path)
    assert [len(begun[step]) for step in (1, 2, 3)] == [1, 2, 1]
    assert begun[2][0] == begun[2][1] != begun[1][0]


@pytest.mark.evidence
def test_after_kills_of_every_process_each_step_is_logged_once_with_the_prompts_of_a_run_without(
    tmp_path, arithmetic_model
):
    for what in ORDER:
        do(tmp_path, what)
    report(tmp_path)
    assert check(tmp_path) == []
