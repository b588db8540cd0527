"""What a program's tests and the waiting for a sandbox may take, against the time limit of the reward function.

Time is a clock of the tests: what sleeps, waits or runs moves it.
"""

import json
import time

import pytest

from balanced_agg.plugin.checks.rewards import check_graders, check_reward_options
from balanced_agg.plugin.guard.faults import DEFAULT_TIMEOUT_SECONDS
from balanced_agg.rewards import code, places, sandbox, sandbox_fusion
from balanced_agg.rewards.code import GRADE_SECONDS, PROGRAM_SECONDS, TEST_SECONDS, grade_code
from balanced_agg.rewards.errors import GraderFailed
from balanced_agg.rewards.sandbox import START_SECONDS, Execution
from tests.composed import compose_recipe, write_rows

PROGRAM = "```python\nprint(3)\n```"
LONG = 1e6  # seconds; no test waits for them


def truth(tests):
    return json.dumps({"inputs": ["1 2"] * tests, "outputs": ["3"] * tests, "fn_name": None})


class Clock:
    """The module `time` for a module under test. `sleep` sees the clock before it moves on."""

    def __init__(self):
        self.now = 0.0
        self.on_sleep = lambda: None

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds
        self.on_sleep()


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    for module in (code, places, sandbox_fusion):
        monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.fixture
def one_place(monkeypatch, tmp_path):
    monkeypatch.setattr(places.os, "sched_getaffinity", lambda pid: {0})
    monkeypatch.setattr(places.tempfile, "gettempdir", lambda: str(tmp_path))


def runs_for(monkeypatch, clock, start_seconds, test_seconds):
    """Let each test of a program take so long, and pass; returns the list of those that ran."""
    ran = []

    def execute(script, stdin, limits, **_):
        ran.append(stdin)
        clock.now += start_seconds + test_seconds
        return Execution(b"3", True, test_seconds)

    monkeypatch.setattr(sandbox, "execute", execute)
    return ran


@pytest.mark.parametrize("start_seconds", [0.05, 20.0, START_SECONDS])
@pytest.mark.parametrize("test_seconds", [0.1, TEST_SECONDS])
@pytest.mark.parametrize("waited", [0.0, 100.0, 223.0])
def test_no_call_takes_longer_than_it_says_whatever_starts_tests_and_waits_take(
    clock, one_place, monkeypatch, start_seconds, test_seconds, waited
):
    ran = runs_for(monkeypatch, clock, start_seconds, test_seconds)
    busy = places.place(LONG)
    busy.__enter__()
    clock.on_sleep = lambda: clock.now >= waited and busy.__exit__(None, None, None)
    try:
        grade_code(PROGRAM, truth(10_000))
    except GraderFailed:
        assert len(ran) * test_seconds <= PROGRAM_SECONDS
    assert ran and clock.now <= GRADE_SECONDS


def test_waiting_for_a_place_does_not_count_against_a_program(clock, one_place, monkeypatch):
    ran = runs_for(monkeypatch, clock, 0.05, 1.0)
    busy = places.place(LONG)
    busy.__enter__()
    clock.on_sleep = lambda: clock.now > 100 and busy.__exit__(None, None, None)
    assert grade_code(PROGRAM, truth(100))  # waiting and tests together take longer than PROGRAM_SECONDS
    assert len(ran) == 100 and clock.now > PROGRAM_SECONDS


def test_a_program_waits_once_and_keeps_its_place_for_all_its_tests(clock, one_place, monkeypatch):
    ran = runs_for(monkeypatch, clock, 0.0, 1.0)
    looks = []
    free_core = places._free_core
    monkeypatch.setattr(places, "_free_core", lambda: looks.append(len(ran)) or free_core())
    assert grade_code(PROGRAM, truth(5)) and grade_code(PROGRAM, truth(3))
    assert looks == [0, 5]


def test_who_waits_in_vain_is_a_failed_grader_in_time(clock, one_place, monkeypatch):
    ran = runs_for(monkeypatch, clock, 0.0, 1.0)
    with places.place(LONG), pytest.raises(GraderFailed, match=r"free.*reward\.num_workers"):
        grade_code(PROGRAM, truth(1))
    assert not ran and clock.now <= GRADE_SECONDS
    assert grade_code(PROGRAM, truth(1))  # the place is free again


def test_who_waits_in_vain_for_the_service_is_a_failed_grader_too():
    url = "http://service"
    with (
        sandbox_fusion.place(time.monotonic() + 1, url, 1),
        pytest.raises(GraderFailed, match=r"sandbox_fusion\.max_concurrent"),
        sandbox_fusion.place(time.monotonic(), url, 1),
    ):
        pass
    with sandbox_fusion.place(time.monotonic(), url, 1):
        pass


@pytest.mark.parametrize("key", ["max_concurrent", "memory_mb"])
@pytest.mark.parametrize("number", [0, -1])
def test_a_service_without_places_or_memory_is_refused(key, number):
    with pytest.raises(ValueError, match=rf"reward_kwargs\.sandbox_fusion_{key}={number}: set it to at least 1"):
        grade_code(PROGRAM, truth(1), sandbox_fusion_url="http://service", **{f"sandbox_fusion_{key}": number})


@pytest.mark.parametrize("key", ["max_concurrent", "memory_limit_mb"])
@pytest.mark.parametrize("number", [0, 0.5])
def test_a_service_without_places_or_memory_is_refused_at_launch(key, number):
    check_reward_options(compose_recipe("arithmetic", f"reward.sandbox_fusion.{key}=null"))
    with pytest.raises(ValueError, match=rf"sandbox_fusion_m[a-z_]+={number}; set it to a whole number of at least 1"):
        check_reward_options(compose_recipe("arithmetic", f"reward.sandbox_fusion.{key}={number}"))


def test_the_time_limit_of_the_reward_function_is_longer_by_default():
    assert PROGRAM_SECONDS + START_SECONDS + TEST_SECONDS < GRADE_SECONDS < DEFAULT_TIMEOUT_SECONDS
    assert compose_recipe("arithmetic").reward.timeout > GRADE_SECONDS


def test_a_shorter_time_limit_is_refused_where_programs_are_graded(tmp_path):
    write_rows(tmp_path / "code.parquet", data_source="livecodebench")
    write_rows(tmp_path / "maths.parquet", data_source="aime_2024")

    def check(name, timeout):
        url, files = "reward.sandbox_fusion.url=http://service", f"data.train_files={tmp_path}/{name}.parquet"
        check_graders(compose_recipe("arithmetic", url, files, f"data.val_files={tmp_path}/maths.parquet", *timeout))

    for too_short in (60, GRADE_SECONDS):
        with pytest.raises(ValueError, match=rf"reward\.timeout={too_short:g}.*above {GRADE_SECONDS:g}"):
            check("code", [f"reward.timeout={too_short}"])
        check("maths", [f"reward.timeout={too_short}"])
    check("code", [f"reward.timeout={GRADE_SECONDS + 1}"])
    check("code", [])
