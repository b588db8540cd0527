"""A checkpoint of two FSDP ranks, as verl leaves it, goes through scripts/evaluate.sh on all six benchmarks."""

import json

import pytest
from balanced_agg.data.prepare import prepare
from balanced_agg.data.registry import BENCHMARKS

from tests.data.sources import BENCHMARK_ROWS, write_jsonl
from tests.end_to_end.launch import launch

pytestmark = pytest.mark.slow


def test_a_sharded_checkpoint_is_evaluated_on_the_six_benchmarks_in_one_pass(first_run, tmp_path):
    run, _ = first_run
    files = []
    for dataset in BENCHMARKS:
        source = write_jsonl(tmp_path / f"source/{dataset.name}.jsonl", BENCHMARK_ROWS[dataset.name])
        files.append(str(prepare(dataset, tmp_path / "data", source).path))
    checkpoint = run.dir / "checkpoints/global_step_3"
    settings = [f"data.val_files=[{','.join(files)}]", "data.max_prompt_length=1024"]
    done = launch(tmp_path / "log", "scripts/evaluate.sh", str(checkpoint), *settings)
    assert done.returncode == 0, done.log[-3000:]
    assert done.leftover == []

    results = checkpoint.with_name("global_step_3-evaluation")
    found = json.loads((results / "evaluation.json").read_text())["benchmarks"]
    asked = {dataset.name: (len(BENCHMARK_ROWS[dataset.name]), dataset.k) for dataset in BENCHMARKS}
    assert {name: (row["problems"], row["k"]) for name, row in found.items()} == asked
    assert all(row["missing"] == 0 and row["grader_failed"]["value"] == 0 for row in found.values())
    assert all(0 < row["response_tokens"]["value"] <= 80 for row in found.values())
    table = (results / "evaluation.md").read_text()
    assert all(f"| {name} |" in table for name in asked)
