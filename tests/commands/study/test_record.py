"""The record keeps what the runs logged, loses no step that it had, and is not written over where it is damaged."""

from dataclasses import replace

import pytest

from balanced_agg.commands.study.record import FIRST_BATCH, METRICS, Record, StudyRun, read_record, write_record
from balanced_agg.runs.run import Run
from balanced_agg.untrusted import Unreadable
from tests.commands.study.made_study import ACCURACY, PLAN, made_record, made_run

KEY = ("search-length_gap", "token", 1)


def test_it_is_read_as_it_was_written_in_float32(tmp_path):
    record = made_record(orders=(1, 3), wanted=lambda key: key[1:] == ("balanced", 2))
    write_record(record, tmp_path)
    found = read_record(tmp_path)
    assert found.plan == PLAN and found.runs.keys() == record.runs.keys()
    for key, run in record.runs.items():
        assert replace(found.runs[key], series={}) == replace(run, series={})
        assert found.runs[key].series == {
            metric: pytest.approx(series, rel=1e-6) for metric, series in run.series.items()
        }
    files = [file.read_bytes() for file in sorted(tmp_path.iterdir())]
    write_record(found, tmp_path)
    assert [file.read_bytes() for file in sorted(tmp_path.iterdir())] == files


def test_it_takes_what_the_report_needs_and_no_more():
    logged = dict.fromkeys([*METRICS, *FIRST_BATCH, ACCURACY["search"], "perf/mfu", "timing_s/step"], 1.0)
    run = Run("name", "path", "search", "group-token-mean", 1, {1: logged, 2: logged})
    facts = dict.fromkeys(("order", "command", "overrides", "commit", "seconds", "finished"))
    series = StudyRun.of(*KEY, logged=run, **facts).series
    assert series.keys() == {*METRICS, *FIRST_BATCH, ACCURACY["search"]}
    assert {metric for metric, found in series.items() if found.keys() == {1}} == {*FIRST_BATCH}


@pytest.mark.parametrize(
    ("steps", "finished", "taken"), [(119, True, False), (120, False, False), (120, True, True), (121, False, True)]
)
def test_a_run_gives_way_to_one_with_at_least_as_many_steps_alone(steps, finished, taken):
    before = made_run(*KEY)
    found = replace(before, steps=steps, finished=finished, commit="later")
    other = made_run(*KEY[:2], 2)
    merged = Record(PLAN, {KEY: before, other.key: other}).merged({KEY: found})
    assert merged.runs == {KEY: found if taken else before, other.key: other}


def test_an_order_is_complete_when_all_of_its_runs_have_finished():
    record = made_record()
    other = made_run("search-length_gap", "dr_grpo", 1)
    record.runs[other.key] = other
    assert record.complete(1) and not record.complete(1, 2) and not record.complete(7)
    assert record.of_complete_orders().runs.keys() == record.runs.keys() - {other.key}
    record.runs[KEY] = replace(record.runs[KEY], finished=False)
    assert not record.complete(1) and record.of_complete_orders().runs == {}


def test_without_files_it_is_empty(tmp_path):
    assert read_record(tmp_path / "none") == Record([], {})


@pytest.mark.parametrize("name", ["runs.json", "metrics.parquet"])
@pytest.mark.parametrize("content", [b"", b"[]", b"PAR1", None])
def test_what_is_damaged_or_missing_is_named(tmp_path, name, content):
    write_record(Record(PLAN, {KEY: made_run(*KEY)}), tmp_path)
    (tmp_path / name).unlink() if content is None else (tmp_path / name).write_bytes(content)
    with pytest.raises(Unreadable, match=r"holds no record of a study .* restore it"):
        read_record(tmp_path)
