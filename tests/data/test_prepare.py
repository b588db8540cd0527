"""Claims about the files that are written, and about when they are."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from balanced_agg.data import prepare as module
from balanced_agg.data import sources
from balanced_agg.data.prepare import CONFLICTING, REPEATED, prepare
from balanced_agg.data.registry import BENCHMARKS, CHOICES
from balanced_agg.data.sources import sha256_of

from balanced_agg.rewards.packed_tests import reference_in
from balanced_agg.rewards.program_tests import find_tests, read_tests
from tests.data.sources import BENCHMARK_ROWS, dapo_row, write_jsonl, write_parquet

ROOT = Path(__file__).parents[2]
DAPO17K, MATH_500, POLARIS, LIVECODEBENCH = (
    CHOICES[name][0] for name in ("dapo17k", "math_500", "polaris", "livecodebench")
)


@pytest.fixture
def math_500(tmp_path):
    return write_parquet(tmp_path / "math_500.parquet", BENCHMARK_ROWS["math_500"])


def rows_of(prepared) -> list[dict]:
    return pq.read_table(prepared.path).to_pylist()


def test_a_benchmark_row_is_what_verl_reads(tmp_path, math_500):
    first, second = rows_of(prepare(MATH_500, tmp_path / "out", math_500))
    prompt = "What is half of one? Let's think step by step and output the final answer within \\boxed{}."
    assert first == {
        "data_source": "math_500",
        "prompt": [{"role": "user", "content": prompt}],
        "ability": "math",
        "reward_model": {"style": "rule", "ground_truth": r"\frac{1}{2}"},
        "extra_info": {"index": 0, "split": "test", "id": "t/1", "unit": None, "answer_type": None},
        "__rollout_n__": 4,
    }
    assert second["extra_info"]["index"] == 1


@pytest.mark.parametrize("dataset", BENCHMARKS, ids=lambda dataset: dataset.name)
def test_each_benchmark_has_its_k_on_each_row(tmp_path, dataset):
    source = write_parquet(tmp_path / "rows.parquet", BENCHMARK_ROWS[dataset.name])
    rows = rows_of(prepare(dataset, tmp_path, source))
    assert len(rows) == len(BENCHMARK_ROWS[dataset.name])
    assert {row["__rollout_n__"] for row in rows} == {32 if "aime" in dataset.name else 4}
    assert {row["data_source"] for row in rows} == {dataset.name}


def test_training_sets_leave_the_number_of_samples_to_the_recipe(tmp_path):
    source = write_jsonl(tmp_path / "rows.jsonl", [{"problem": "Find it.", "answer": "1"}])
    assert "__rollout_n__" not in rows_of(prepare(POLARIS, tmp_path, source))[0]


def test_dapo_prompts_are_unique_and_those_with_conflicting_answers_gone_and_counted(tmp_path):
    pairs = [("a", "1"), ("b", "2"), ("a", "1"), ("c", "3"), ("b", "5"), ("b", "2"), ("c", "3"), ("d", "4")]
    rows = [dapo_row(*pair, index=str(number)) for number, pair in enumerate(pairs)]
    prepared = prepare(DAPO17K, tmp_path, write_parquet(tmp_path / "rows.parquet", rows))
    assert [row["reward_model"]["ground_truth"] for row in rows_of(prepared)] == ["1", "3", "4"]
    assert [row["extra_info"]["index"] for row in rows_of(prepared)] == [0, 3, 7]
    manifest = prepared.manifest
    assert (manifest["source_rows"], manifest["problems"], manifest["rows"]) == (8, 4, 3)
    assert manifest["conflicting_prompts"] == 1
    assert manifest["dropped"][CONFLICTING] == {"rows": 2, "examples": ["1", "4"]}
    assert manifest["dropped"][REPEATED] == {"rows": 3, "examples": ["2", "5", "6"]}


def test_one_number_in_two_spellings_is_no_conflict(tmp_path):
    source = tmp_path / "rows.jsonl"
    golds = ["12", "12.0", '"012"', "1.2e1", f"{2**64}", f"{2**64 + 1}", '"x"', '" x"', '"50"', '"50%"']
    source.write_text("".join(f'{{"problem": "{n // 4}", "answer": {gold}}}\n' for n, gold in enumerate(golds)))
    prepared = prepare(POLARIS, tmp_path, source)
    assert [row["reward_model"]["ground_truth"] for row in rows_of(prepared)] == ["12"]
    source.write_text("".join(f'{{"problem": "{n // 2}", "answer": {gold}}}\n' for n, gold in enumerate(golds)))
    prepared = prepare(POLARIS, tmp_path, source)
    assert [row["reward_model"]["ground_truth"] for row in rows_of(prepared)] == ["12", "012", "x"]


def test_every_source_row_is_written_or_dropped_for_a_reason(tmp_path):
    good = [{"problem": f"Problem {number}.", "answer": str(number)} for number in range(5)]
    bad = [
        {"problem": "", "answer": "1"},
        {"problem": "No answer.", "answer": None},
        {"problem": "![](a.png)", "answer": "1"},
        {"problem": "long " * 30_000, "answer": "1"},
        good[0],
        {"problem": "Problem 1.", "answer": "another"},
    ]
    manifest = prepare(POLARIS, tmp_path, write_jsonl(tmp_path / "rows.jsonl", good + bad)).manifest
    assert manifest["rows"] == 4
    assert {reason: entry["rows"] for reason, entry in manifest["dropped"].items()} == {
        "no problem": 1,
        "no answer": 1,
        "needs a picture": 1,
        "the prompt is longer than 100000 characters": 1,
        REPEATED: 1,
        CONFLICTING: 2,
    }
    assert manifest["source_rows"] == manifest["rows"] + sum(entry["rows"] for entry in manifest["dropped"].values())


def test_conflicts_are_dropped_across_row_groups(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "ROW_GROUP_BYTES", 150)
    rows = [{"problem": f"Problem {number}.", "answer": "1"} for number in range(9)]
    source = write_jsonl(tmp_path / "rows.jsonl", [*rows, rows[0] | {"answer": "2"}, rows[8] | {"answer": "2"}])
    prepared = prepare(POLARIS, tmp_path, source)
    assert pq.ParquetFile(prepared.path).num_row_groups > 2
    assert [row["extra_info"]["index"] for row in rows_of(prepared)] == list(range(1, 8))


def test_our_own_file_is_a_source_that_gives_the_same_rows(tmp_path):
    for dataset in BENCHMARKS[:-1]:
        first = prepare(dataset, tmp_path / "a", write_parquet(tmp_path / "rows.parquet", BENCHMARK_ROWS[dataset.name]))
        second = prepare(dataset, tmp_path / "b", first.path)
        assert rows_of(second) == rows_of(first)
        assert second.manifest["verl_data_sources"] == [dataset.name] and not first.manifest["verl_data_sources"]


def test_restored_backslashes_are_counted_and_doubtful_characters_named_in_question_and_gold(tmp_path):
    rows = [
        {"problem": "Let $\triangle ABC$ be.", "answer": "\x0crac{1}{2}", "solution": "", "level": 0.5},
        {"problem": "Find it.", "answer": "1", "solution": "\x08oxed{1}"},
        {"problem": "Is $a\nu$ it?", "answer": "1"},
        {"problem": "And it?", "answer": "\x05lambda"},
        {"problem": "Now,\tan answer.", "answer": "3", "level": float("nan")},
    ]
    for source in (write_jsonl(tmp_path / "rows.jsonl", rows), write_parquet(tmp_path / "rows.parquet", rows)):
        prepared = prepare(POLARIS, tmp_path / source.suffix, source)
        first, *_, last = rows_of(prepared)
        assert first["prompt"][0]["content"].startswith(r"Let $\triangle ABC$ be.")
        assert first["reward_model"]["ground_truth"] == r"\frac{1}{2}"
        assert last["prompt"][0]["content"].startswith("Now,\tan answer.")
        assert prepared.manifest["restored_backslashes"] == {
            "problem": {"rows": 1, "examples": ["row 0"]},
            "answer": {"rows": 1, "examples": ["row 0"]},
            "solution": {"rows": 1, "examples": ["row 1"]},
        }
        (warning,) = prepared.manifest["warnings"]
        assert (
            warning.startswith("2 rows")
            and 'row 2, prompt: U+000A in "Is $a' in warning
            and "row 3, ground_truth" in warning
        )


def test_a_program_keeps_its_control_characters(tmp_path):
    row = BENCHMARK_ROWS["livecodebench"][0] | {"question_content": "Print a tab,\theta, \x0crac."}
    prepared = prepare(CHOICES["livecodebench"][0], tmp_path, write_parquet(tmp_path / "rows.parquet", [row]))
    assert row["question_content"] in rows_of(prepared)[0]["prompt"][1]["content"]
    assert prepared.manifest["restored_backslashes"] == {}


def test_instructions_in_verls_schema_that_are_not_known_are_named(tmp_path):
    rows = [dapo_row("Find it.", "1"), dapo_row("Put it in $\\boxed{}$", "2")]
    source = write_parquet(tmp_path / "rows.parquet", rows)
    (warning,) = prepare(POLARIS, tmp_path, source).manifest["warnings"]
    assert warning.startswith("2 rows") and "row 0 (Answer:)" in warning and "row 1" in warning
    assert not any(
        "words of their own" in warning for warning in prepare(DAPO17K, tmp_path, source).manifest["warnings"]
    )


def test_a_source_with_rows_that_cannot_be_used_is_not_incomplete(tmp_path, monkeypatch):
    rows = [{"problem": f"Problem {number}.", "answer": "1"} for number in range(498)]
    for more, remark in (
        ([{"problem": "![](a.png)", "answer": "1"}] * 2, r"found 498 besides 2 rows that cannot be used$"),
        ([{"problem": "![](a.png)", "answer": "1"}], r"besides 1 rows that cannot be used: .* incomplete"),
        ([rows[0]] * 2, r"found 498: .* incomplete"),
        ([{"problem": f"Problem a{number}.", "answer": "1"} for number in range(3)], r"found 501: this is more than"),
    ):
        source = write_jsonl(tmp_path / "rows.jsonl", rows + more)
        (warning,) = prepare(MATH_500, tmp_path / "out", source).manifest["warnings"]
        assert re.search(remark, warning), warning


def test_manifest_tells_the_truth(tmp_path, math_500):
    prepared = prepare(MATH_500, tmp_path / "out", math_500)
    manifest = json.loads((tmp_path / "out" / "math_500.json").read_text())
    assert manifest == prepared.manifest
    assert manifest["sha256"] == sha256_of(prepared.path)
    assert manifest["rows"] == manifest["source_rows"] == len(rows_of(prepared))
    assert manifest["columns"] == pq.read_schema(prepared.path).names
    assert manifest["source"] == str(math_500)
    assert manifest["source_files"] == {"math_500.parquet": sha256_of(math_500)}
    assert manifest["warnings"] == [
        "expected 500 distinct problems, found 2: this is an incomplete copy of HuggingFaceH4/MATH-500"
    ]


def test_two_runs_write_the_same_bytes(tmp_path, math_500):
    one, two = (prepare(MATH_500, tmp_path / folder, math_500) for folder in "ab")
    assert one.path.read_bytes() == two.path.read_bytes()
    assert one.manifest == two.manifest


def stamps(folder: Path) -> dict[str, int]:
    return {file.name: file.stat().st_mtime_ns for file in folder.iterdir()}


def test_second_run_does_nothing(tmp_path, math_500):
    out = tmp_path / "out"
    assert prepare(MATH_500, out, math_500).wrote
    before = stamps(out)
    (tmp_path / "elsewhere").mkdir()
    moved = math_500.rename(tmp_path / "elsewhere" / math_500.name)
    assert not prepare(MATH_500, out, moved).wrote
    assert stamps(out) == before
    assert set(before) == {"math_500.parquet", "math_500.json"}


@pytest.mark.parametrize("damage", ["parquet", "json", "no json", "no parquet", "list"])
def test_damaged_files_are_written_again(tmp_path, math_500, damage):
    out = tmp_path / "out"
    intact = prepare(MATH_500, out, math_500).path.read_bytes()
    file = out / ("math_500.parquet" if "parquet" in damage else "math_500.json")
    if damage.startswith("no "):
        file.unlink()
    else:
        file.write_bytes(b"[]" if damage == "list" else file.read_bytes()[:-3])
    assert prepare(MATH_500, out, math_500).wrote
    assert (out / "math_500.parquet").read_bytes() == intact
    assert not prepare(MATH_500, out, math_500).wrote


def test_another_source_is_written_anew(tmp_path, math_500):
    prepare(MATH_500, tmp_path / "out", math_500)
    other = write_parquet(tmp_path / "other" / "math_500.parquet", BENCHMARK_ROWS["math_500"][:1])
    prepared = prepare(MATH_500, tmp_path / "out", other)
    assert prepared.wrote and len(rows_of(prepared)) == 1


class Killed(BaseException):
    pass


def dies(rows, total):
    yield from list(rows)[:1]
    raise Killed


def test_run_killed_while_reading_leaves_nothing(tmp_path, math_500):
    with pytest.raises(Killed):
        prepare(MATH_500, tmp_path / "out", math_500, progress=dies)
    assert list((tmp_path / "out").iterdir()) == []


def test_run_killed_between_the_two_files_is_repaired_by_the_next(tmp_path, math_500, monkeypatch):
    out = tmp_path / "out"
    other = write_parquet(tmp_path / "other.parquet", BENCHMARK_ROWS["math_500"][:1])
    prepare(MATH_500, out, other)

    def replace(source, target):
        if target.suffix == ".json":
            raise Killed
        source.rename(target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", replace)
        with pytest.raises(Killed):
            prepare(MATH_500, out, math_500)
    prepared = prepare(MATH_500, out, other)
    assert prepared.wrote and len(rows_of(prepared)) == 1
    assert {file.name for file in out.iterdir()} == {"math_500.parquet", "math_500.json"}


def test_failed_run_keeps_the_old_files(tmp_path, math_500):
    out = tmp_path / "out"
    prepare(MATH_500, out, math_500)
    before = stamps(out)
    with pytest.raises(ValueError, match="reply"):
        prepare(MATH_500, out, write_jsonl(tmp_path / "bad.jsonl", [{"problem": "Find it.", "reply": "1"}]))
    assert stamps(out) == before


def test_two_runs_at_once_leave_complete_files(tmp_path, math_500):
    command = [sys.executable, "-m", "balanced_agg", "prepare", "math_500"]
    command += ["--source", str(math_500), "--out", str(tmp_path / "out")]
    runs = [subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    for run in runs:
        assert run.communicate(timeout=60)[1].count("Traceback") == 0
        assert run.returncode == 0
    assert not prepare(MATH_500, tmp_path / "out", math_500).wrote
    assert {file.name for file in (tmp_path / "out").iterdir()} == {"math_500.parquet", "math_500.json"}


def test_source_without_usable_rows_is_an_error_with_the_reasons(tmp_path):
    source = write_jsonl(tmp_path / "rows.jsonl", [{"problem": "a", "answer": ""}, {"problem": "", "answer": "1"}])
    with pytest.raises(ValueError, match="none of the 2 rows can be used: 1 x no answer; 1 x no problem"):
        prepare(MATH_500, tmp_path / "out", source)


def test_expected_number_of_problems_is_binding(tmp_path, math_500):
    assert prepare(MATH_500, tmp_path / "out", math_500, expect=2).manifest["warnings"] == []
    with pytest.raises(ValueError, match=r"expected 3 distinct problems, found 2.*--expect 2"):
        prepare(MATH_500, tmp_path / "out", math_500, expect=3)


def test_number_of_dapo_prompts_is_asserted_on_the_hub_and_warned_of_elsewhere(tmp_path, monkeypatch):
    rows = [dapo_row("a", "1"), dapo_row("b", "2"), dapo_row("b", "3")]
    monkeypatch.setattr(sources, "hub_rows", lambda _, identity: (iter(rows), 3, identity | {"revision": "abc"}))
    with pytest.raises(ValueError, match=r"expected 17398 distinct problems, found 2.*--expect 2 accepts it"):
        prepare(DAPO17K, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []
    accepted = prepare(DAPO17K, tmp_path / "out", expect=2)
    assert (accepted.manifest["rows"], accepted.manifest["revision"]) == (1, "abc")
    assert not prepare(DAPO17K, tmp_path / "out").wrote
    source = write_parquet(tmp_path / "rows.parquet", rows)
    monkeypatch.undo()
    assert "17398" in prepare(DAPO17K, tmp_path / "out", source).manifest["warnings"][0]


# --- tests of programs


@pytest.fixture
def programs(tmp_path):
    return write_parquet(tmp_path / "livecodebench.parquet", BENCHMARK_ROWS["livecodebench"])


def test_tests_of_programs_lie_beside_the_rows_which_refer_to_them(tmp_path, programs):
    out = tmp_path / "out"
    prepared = prepare(LIVECODEBENCH, out, programs)
    assert {file.name for file in out.iterdir()} == {f"livecodebench.{end}" for end in ("parquet", "tests.zip", "json")}
    assert prepared.manifest["tests_file"] == "livecodebench.tests.zip"
    assert prepared.manifest["tests_sha256"] == sha256_of(out / "livecodebench.tests.zip")
    for row, source in zip(rows_of(prepared), BENCHMARK_ROWS["livecodebench"], strict=True):
        truth = row["reward_model"]["ground_truth"]
        assert reference_in(truth).file == prepared.manifest["tests_file"] and len(truth) < 200
        assert find_tests(truth, [str(out)])() == read_tests(LIVECODEBENCH.convert(source).ground_truth)


def test_tests_are_written_once_and_with_the_same_bytes(tmp_path, programs):
    out = tmp_path / "out"
    assert prepare(LIVECODEBENCH, out, programs).wrote
    before = stamps(out)
    assert not prepare(LIVECODEBENCH, out, programs).wrote
    assert stamps(out) == before
    prepare(LIVECODEBENCH, tmp_path / "again", programs)
    for file in out.iterdir():
        assert file.read_bytes() == (tmp_path / "again" / file.name).read_bytes()


@pytest.mark.parametrize("damage", ["cut off", "gone", "of an older version"])
def test_tests_that_are_not_those_of_the_manifest_are_written_again(tmp_path, programs, damage):
    out = tmp_path / "out"
    prepare(LIVECODEBENCH, out, programs)
    tests, manifest = out / "livecodebench.tests.zip", out / "livecodebench.json"
    intact = tests.read_bytes()
    if damage == "of an older version":  # whose rows had the tests
        manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"tests_sha256": None}))
    tests.unlink() if damage == "gone" else tests.write_bytes(intact[:-1])
    assert prepare(LIVECODEBENCH, out, programs).wrote
    assert tests.read_bytes() == intact


def test_a_failed_run_keeps_the_old_tests_and_a_killed_one_leaves_none(tmp_path, programs):
    with pytest.raises(Killed):
        prepare(LIVECODEBENCH, tmp_path / "out", programs, progress=dies)
    assert list((tmp_path / "out").iterdir()) == []
    prepare(LIVECODEBENCH, tmp_path / "out", programs)
    before = stamps(tmp_path / "out")
    with pytest.raises(ValueError, match="expected 7"):
        other = write_parquet(tmp_path / "other.parquet", BENCHMARK_ROWS["livecodebench"][:1])
        prepare(LIVECODEBENCH, tmp_path / "out", other, expect=7)
    assert stamps(tmp_path / "out") == before


def test_large_rows_are_read_a_few_at_a_time(tmp_path, monkeypatch):
    """LiveCodeBench has rows of megabytes, and a data set of a million rows must not be read one by one."""
    at_once = []
    iter_batches = pq.ParquetFile.iter_batches
    monkeypatch.setattr(
        pq.ParquetFile, "iter_batches", lambda self, rows: at_once.append(rows) or iter_batches(self, rows)
    )
    monkeypatch.setattr(sources, "BYTES_AT_ONCE", 10_000)
    for length in (10, 3_000, 300_000):
        rows = [{"text": f"{number}" * length} for number in range(9)]
        assert list(sources.parquet_rows(write_parquet(tmp_path / f"{length}.parquet", rows))) == rows
    assert at_once[0] == 64 and 1 < at_once[1] < 4 and at_once[2] == 1
