"""Claims about what the user of `balanced-agg prepare` sees."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import datasets
import httpx
import pyarrow.parquet as pq
import pytest
from balanced_agg.data.registry import CHOICES
from huggingface_hub import HfApi
from huggingface_hub.errors import OfflineModeIsEnabled, RepositoryNotFoundError
from typer.testing import CliRunner

from balanced_agg.arithmetic.tasks import TASKS
from balanced_agg.commands.cli import app
from tests.composed import compose_recipe
from tests.data.sources import BENCHMARK_ROWS, write_jsonl, write_parquet

ROOT = Path(__file__).parents[2]


def invoke(*arguments):
    return CliRunner().invoke(app, ["prepare", *map(str, arguments)])


@pytest.fixture
def folder(tmp_path):
    for name, rows in BENCHMARK_ROWS.items():
        write_parquet(tmp_path / "sources" / f"{name}.parquet", rows)
    return tmp_path / "sources"


@pytest.mark.parametrize("arguments", [[], ["nope"], ["math_500", "nope"]])
def test_without_a_known_name_all_are_listed(arguments):
    result = invoke(*arguments)
    assert result.exit_code == 2
    for name in CHOICES:
        assert f"  {name} " in result.output
    assert ("unknown data set nope" in result.output) == bool(arguments)


def test_benchmarks_are_six():
    assert [dataset.name for dataset in CHOICES["benchmarks"]] == list(BENCHMARK_ROWS)


def test_all_benchmarks_come_from_one_folder(tmp_path, folder):
    result = invoke("benchmarks", "--source", folder, "--out", tmp_path / "out", "--json")
    assert result.exit_code == 0
    report = json.loads(result.stdout)
    assert [entry["name"] for entry in report["prepared"]] == list(BENCHMARK_ROWS)
    assert all(entry["wrote"] and Path(entry["path"]).is_file() for entry in report["prepared"])
    again = invoke("benchmarks", "--source", folder, "--out", tmp_path / "out")
    assert again.stdout.count("up to date") == 6


def test_dropped_rows_and_warnings_are_told(tmp_path):
    source = write_jsonl(tmp_path / "rows.jsonl", [*BENCHMARK_ROWS["math_500"], {"problem": "Why?", "answer": None}])
    for _ in range(2):
        result = invoke("math_500", "--source", source, "--out", tmp_path / "out")
        assert result.exit_code == 0
        assert "1 rows dropped, no answer: row 2" in result.stderr
        assert "WARNING: expected 500 distinct problems, found 2" in result.stderr


def test_the_two_halves_of_aime_2025_are_two_sources_or_one_folder(tmp_path):
    halves = [[{"problem": f"Find {half}{number}.", "answer": str(number)} for number in range(15)] for half in "ab"]
    one, two = (
        write_jsonl(tmp_path / "in" / f"aime2025-{part}.jsonl", rows)
        for part, rows in zip(("I", "II"), halves, strict=True)
    )
    for sources in ((one, two), (tmp_path / "in",)):
        result = invoke(
            "aime_2025", *(word for path in sources for word in ("--source", path)), "--out", tmp_path, "--json"
        )
        assert result.exit_code == 0, result.output
        (entry,) = json.loads(result.stdout)["prepared"]
        assert entry["rows"] == 30 and entry["warnings"] == [] and len(entry["source_files"]) == 2
    result = invoke("aime_2025", "math_500", "--source", one, "--source", two)
    assert result.exit_code == 2 and "parts of one data set" in result.output


def test_what_was_changed_is_told(tmp_path):
    row = {
        "data_source": "published",
        "prompt": [{"role": "user", "content": "Is $\triangle ABC$ or $a\nu$ it?"}],
        "reward_model": {"style": "rule", "ground_truth": 142.0},
    }
    result = invoke("aime_2025", "--source", write_parquet(tmp_path / "rows.parquet", [row]), "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    told = " ".join(result.stderr.split())
    assert "1 rows with LaTeX backslashes restored in prompt: row 0" in told
    assert "source in verl's schema, data_source 'published'" in told
    assert "1 rows that have a control character" in told and "row 0, prompt" in told


def test_a_torn_file_is_one_line_without_a_traceback(tmp_path):
    source = tmp_path / "torn.jsonl"
    source.write_text('{"problem": "a", "answer": 1}\n{"problem": "b", "ans')
    result = invoke("math_500", "--source", source, "--out", tmp_path / "out")
    assert result.exit_code == 1 and result.exception.args == (1,)
    assert "torn.jsonl cannot be read: line 2" in " ".join(result.stderr.split())


def test_one_failure_leaves_the_others_done(tmp_path, folder):
    write_jsonl(folder / "minerva.jsonl", [{"reply": "1"}])
    (folder / "minerva.parquet").unlink()
    result = invoke("minerva", "math_500", "--source", folder, "--out", tmp_path / "out", "--json")
    assert result.exit_code == 1
    assert "expected a field 'answer' or 'solution', found ['reply']" in json.loads(result.stdout)["failed"]["minerva"]
    assert (tmp_path / "out" / "math_500.parquet").is_file()


def test_generated_set_takes_no_source(tmp_path):
    result = invoke("chain_sum", "--source", tmp_path)
    assert result.exit_code == 2 and "leave --source out" in result.output


def test_expected_number_is_for_one_set():
    result = invoke("benchmarks", "--expect", "3")
    assert result.exit_code == 2 and "for one data set" in result.output


def test_hub_is_read_at_one_commit_which_the_manifest_records(tmp_path, monkeypatch):
    asked = []

    def load_dataset(*arguments, **options):
        asked.append((arguments, options))
        return datasets.Dataset.from_list(BENCHMARK_ROWS["olympiadbench"])

    monkeypatch.setattr(HfApi, "dataset_info", lambda *_, **__: SimpleNamespace(sha="c0ffee"))
    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    for wrote in (True, False):
        result = invoke("olympiadbench", "--out", tmp_path, "--json")
        (entry,) = json.loads(result.stdout)["prepared"]
        assert entry["wrote"] == wrote
        assert (entry["source"], entry["revision"], entry["rows"]) == ("Hothan/OlympiadBench", "c0ffee", 1)
    assert asked == [
        (("Hothan/OlympiadBench", "OE_TO_maths_en_COMP"), {"split": "train", "revision": "c0ffee"}),
    ]


@pytest.mark.parametrize("answer", ["0.70", f"{2**64 + 1}"])
def test_what_the_hubs_reader_would_change_is_to_be_downloaded_by_hand(tmp_path, monkeypatch, answer):
    load_dataset, file = datasets.load_dataset, tmp_path / "mixed.jsonl"
    file.write_text(f'{{"problem": "a", "answer": {answer}}}\n{{"problem": "b", "answer": "025"}}\n')
    options = {"data_files": str(file), "split": "train", "cache_dir": str(tmp_path / "cache")}
    monkeypatch.setattr(HfApi, "dataset_info", lambda *_, **__: SimpleNamespace(sha="c0ffee"))
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: load_dataset("json", **options))
    result = invoke("math_500", "--out", tmp_path / "out")
    assert result.exit_code == 1 and "balanced-agg prepare math_500 --source downloads" in result.stderr
    result = invoke("math_500", "--source", file, "--out", tmp_path / "out")
    assert result.exit_code == 0
    rows = pq.read_table(tmp_path / "out" / "math_500.parquet").to_pylist()
    assert [row["reward_model"]["ground_truth"] for row in rows] == [answer, "025"]


@pytest.mark.parametrize(
    "error",
    [
        httpx.ConnectError("the cause"),
        httpx.ConnectTimeout("the cause"),
        OfflineModeIsEnabled("the cause"),
        RepositoryNotFoundError("the cause", response=httpx.Response(404, request=httpx.Request("GET", "https://hub"))),
    ],
    ids=lambda error: type(error).__name__,
)
def test_without_the_hub_the_user_learns_what_to_download_and_where_to_put_it(tmp_path, monkeypatch, error):
    def fails(*_, **__):
        raise error

    monkeypatch.setattr(HfApi, "dataset_info", fails)
    result = invoke("livecodebench", "--out", tmp_path)
    assert result.exit_code == 1
    assert "the cause" in result.stderr
    assert (
        "hf download lighteval/code_generation_lite --repo-type dataset --include 'release_v5/*.parquet' "
        "--local-dir downloads/livecodebench" in result.stderr
    )
    assert "balanced-agg prepare livecodebench --source downloads" in result.stderr
    assert list(tmp_path.iterdir()) == []


def run(*arguments, cwd, **environment):
    command = [sys.executable, "-m", "balanced_agg", *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | environment
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=60)


def test_unreachable_hub_ends_without_a_traceback(tmp_path):
    result = run("prepare", "math_500", "--out", tmp_path, cwd=ROOT, HF_ENDPOINT="http://127.0.0.1:9")
    assert result.returncode == 1
    assert "could not download HuggingFaceH4/MATH-500" in result.stderr
    assert "Traceback" not in result.stderr


def test_output_is_where_the_user_stands_or_where_they_said(tmp_path):
    source = write_parquet(tmp_path / "math_500.parquet", BENCHMARK_ROWS["math_500"])
    for out, environment in (("artifacts/data", {}), ("root/artifacts/data", {"BALANCED_AGG_ROOT": "root"})):
        result = run("prepare", "math_500", "--source", source.name, cwd=tmp_path, **environment)
        assert result.returncode == 0, result.stderr
        assert (tmp_path / out / "math_500.parquet").is_file()


@pytest.mark.parametrize("task", TASKS)
def test_a_prepared_embedded_task_is_found_by_its_recipe_and_has_no_source(tmp_path, monkeypatch, task):
    monkeypatch.setattr("balanced_agg.arithmetic.warm_start.warm_start", lambda task, regime, folder, *_, **__: True)
    monkeypatch.setenv("BALANCED_AGG_ROOT", str(tmp_path))
    result = invoke(task, "--json")
    assert [entry["wrote"] for entry in json.loads(result.stdout)["prepared"]] == [True] * 3
    config = compose_recipe(task)
    assert Path(config.data.train_files).is_file() and Path(config.data.val_files).is_file()
    for option in (["--regime", "length"], ["--source", tmp_path], ["--expect", "3"], ["math_500"]):
        assert invoke(task, *option, "--out", tmp_path / "none").exit_code > 0
    assert invoke("math_500", "--regime", "length_gap").exit_code == 2
    assert not (tmp_path / "none").exists()
