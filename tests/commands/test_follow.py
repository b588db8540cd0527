"""`balanced-agg follow` shows a run by the metrics it logs, and says what went wrong when it ends badly."""

import json
import subprocess
import sys

from balanced_agg.commands.follow import POLL_SECONDS, Tail


def follow(tmp_path, script: str) -> subprocess.CompletedProcess:
    ours = [sys.executable, "-m", "balanced_agg", "follow", str(tmp_path)]
    command = [*ours, "--", sys.executable, "-c", script]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def write_metrics(tmp_path, records: list[tuple[int, dict]]) -> str:
    """A program that logs these records as verl's file logger does, and talks while it does."""
    lines = "".join(json.dumps({"step": step, "data": data}) + "\n" for step, data in records)
    return f"print('noise'); open({str(tmp_path / 'metrics.jsonl')!r}, 'w').write({lines!r})"


def test_a_line_a_step_and_accuracy_before_and_after(tmp_path):
    train = {"critic/score/mean": 0.5, "response_length/mean": 41.7, "timing_s/step": 4.25}
    key = "val-core/arithmetic/acc/mean@2"
    done = follow(tmp_path, write_metrics(tmp_path, [(0, {key: 0.455}), (1, train), (2, train | {key: 0.81})]))
    assert done.returncode == 0
    assert "step   1  reward 0.50  response 42 tokens  4.2 s\n" in done.stdout
    assert "validation accuracy 45.5% -> 81.0% (+35.5 points)" in done.stdout
    assert "2 steps in" in done.stdout
    assert "noise" not in done.stdout and "noise" in (tmp_path / "log.txt").read_text()


def test_a_failed_run_passes_on_its_exit_code_and_the_end_of_its_log(tmp_path):
    done = follow(tmp_path, "raise SystemExit('ValueError: set this key')")
    assert done.returncode == 1
    assert "ValueError: set this key" in done.stderr
    assert "points" not in done.stdout


def test_steps_of_an_earlier_run_are_not_counted_and_its_logs_stay(tmp_path):
    logs = {"metrics.jsonl": '{"step": 9, "data": {"val-core/x/acc/mean@1": 0.1}}\n', "log.txt": "hours of work\n"}
    for name, text in logs.items():
        (tmp_path / name).write_text(text)
    done = follow(tmp_path, "print('nothing logged')")
    assert "step" not in done.stdout
    assert (tmp_path / "metrics.jsonl").read_text() == logs["metrics.jsonl"]
    assert (tmp_path / "log.txt").read_text() == "hours of work\nnothing logged\n"


def test_of_a_run_that_starts_anew_and_empties_the_log_all_steps_are_shown(tmp_path):
    key = "val-core/x/acc/mean@1"
    (tmp_path / "metrics.jsonl").write_text(
        "".join(f'{{"step": {step}, "data": {{"{key}": 0.1}}}}\n' for step in (0, 1))
    )
    done = follow(tmp_path, write_metrics(tmp_path, [(0, {key: 0.25})]))
    assert "step   0  validation accuracy 25.0%\n" in done.stdout and "step   1" not in done.stdout


def test_of_a_run_that_resumes_with_a_truncated_log_only_new_steps_are_shown(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(f'{{"step": {step}, "data": {{"loss": {step}}}}}\n' for step in range(9)))
    done = follow(
        tmp_path,
        f"""
import os
path = {str(path)!r}
lines = open(path).readlines()
with open(path + ".new", "w") as log:
    log.writelines(lines[:5])
    log.write('{{"step": 5, "data": {{"loss": 5, "accuracy": 1}}}}\\n{{"step": 6, "data": {{"loss": 7}}}}\\n')
os.replace(path + ".new", path)
""",
    )
    assert done.stdout == "step   5\nstep   6\n"


def test_ctrl_c_is_left_to_the_command(tmp_path):
    script = """
import os, signal, time
signal.signal(signal.SIGINT, lambda *_: exit(7))
os.killpg(os.getpgid(0), signal.SIGINT)
time.sleep(60)
"""
    ours = [sys.executable, "-m", "balanced_agg", "follow", str(tmp_path), "--", sys.executable, "-c", script]
    assert subprocess.run(ours, start_new_session=True, timeout=60, capture_output=True).returncode == 7


def test_sigterm_is_passed_on_to_the_command_once(tmp_path):
    script = f"""
import os, signal, time
came = []
signal.signal(signal.SIGTERM, lambda *_: came.append(1))
os.kill(os.getppid(), signal.SIGTERM)
while not came:
    time.sleep(0.01)
{write_metrics(tmp_path, [(1, {})])}
time.sleep(2 * {POLL_SECONDS})
exit(6 + len(came))
"""
    ours = [sys.executable, "-m", "balanced_agg", "follow", str(tmp_path), "--", sys.executable, "-c", script]
    done = subprocess.run(ours, start_new_session=True, timeout=60, capture_output=True, text=True)
    assert done.returncode == 7, done.stderr
    assert done.stdout == "step   1\n"  # it is followed to its end


def test_a_half_written_line_is_read_once_it_is_complete(tmp_path):
    path = tmp_path / "metrics.jsonl"
    tail = Tail(path)
    assert tail.new() == []
    path.write_text('{"step": 1, "data": {}}\n{"step": 2, "da')
    assert tail.new() == [(1, {})]
    with path.open("a") as file:
        file.write('ta": {}}\n')
    assert tail.new() == [(2, {})]
    assert tail.new() == []


def test_a_line_that_is_no_record_is_skipped(tmp_path):
    tail = Tail(tmp_path / "metrics.jsonl")
    tail.path.write_text('ss": 0.5}}\n17\n{"step": 1, "data": {}}{"step": 2\n{"step": 3, "data": {}}\n')
    assert tail.new() == [(3, {})]


def test_metrics_of_other_kinds_are_left_out_of_a_steps_line_and_the_run_goes_on(tmp_path):
    odd = [None, "high", [1], {"a": 1}, True, float("nan"), float("inf"), 10**400, -1e308]
    records = [(step, {"critic/score/mean": value, "timing_s/step": value}) for step, value in enumerate(odd)]
    records += [(10, {"critic/score/mean": 0.5}), (11, {"val-core/x/acc/mean@1": None, "response_length/mean": 7})]
    done = follow(tmp_path, write_metrics(tmp_path, records))
    lines = [f"step {step:3d}" for step in range(9)]
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [*lines, "step  10  reward 0.50", "step  11  response 7 tokens"]


def test_a_reward_stands_in_for_an_accuracy(tmp_path):
    done = follow(tmp_path, write_metrics(tmp_path, [(0, {"val-core/x/reward/mean@1": 0.25})]))
    assert "step   0  validation accuracy 25.0%" in done.stdout


def test_what_cannot_be_followed_is_one_line(tmp_path):
    (tmp_path / "metrics.jsonl").mkdir()
    assert follow(tmp_path, "print('nothing logged')").returncode == 0
    (tmp_path / "log.txt").unlink()
    (tmp_path / "log.txt").mkdir()
    done = follow(tmp_path, "print('nothing logged')")
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "log.txt" in done.stderr
