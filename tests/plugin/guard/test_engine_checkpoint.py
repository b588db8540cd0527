"""Save, complete, load and merge a checkpoint of four ranks of verl's FSDP2 engine, two to a copy of the weights."""

import shutil
import subprocess

import pytest
import torch
from safetensors.torch import load_file

from balanced_agg.commands.evaluate.merge import command
from balanced_agg.plugin.guard import checkpoints
from tests.composed import ROOT

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory, fresh_process):
    folder = tmp_path_factory.mktemp("hybrid")
    code = "import sys; from pathlib import Path; from tests.plugin.guard.engine_checkpoint import main\n"
    done = fresh_process(f"{code}main(Path(sys.argv[1]), 2, 2)", str(folder), VERL_PLATFORM="cpu")
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def test_a_run_that_resumes_takes_the_step_of_one_that_went_on(folder):
    saved, went_on, resumed = (torch.load(folder / f"{name}.pt") for name in ("saved", "went_on", "resumed"))
    assert resumed.keys() == went_on.keys()
    assert all(torch.equal(resumed[name], went_on[name]) for name in went_on)
    assert not any(torch.equal(saved[name], went_on[name]) for name in went_on)


def test_it_is_complete_with_the_files_of_all_ranks(folder, tmp_path):
    run = tmp_path / "checkpoints"
    shutil.copytree(folder / "global_step_1", run / "global_step_1")
    assert checkpoints.completed(run) == [run / "global_step_1"]
    for kind in ("model", "optim", "extra_state"):
        file = run / f"global_step_1/actor/{kind}_world_size_4_rank_3.pt"
        file.rename(tmp_path / "kept")
        assert checkpoints.incomplete(run) == {"global_step_1": f"{file.relative_to(run / 'global_step_1')} is missing"}
        (tmp_path / "kept").rename(file)


@pytest.mark.parametrize("ranks", [4, 2])  # 2: those of the first node, where each node has a disk of its own
def test_it_is_merged_to_the_weights_that_were_saved(folder, tmp_path, ranks):
    shards = tmp_path / "actor"
    shutil.copytree(folder / "global_step_1/actor", shards)
    for rank in range(ranks, 4):
        (shards / f"model_world_size_4_rank_{rank}.pt").unlink()
    done = subprocess.run(command(shards, tmp_path / "model", trusted=False), cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    saved, merged = torch.load(folder / "saved.pt"), load_file(tmp_path / "model/model.safetensors")
    assert len(merged) == sum(name != "lm_head.weight" and ".exp_avg" not in name for name in saved)
    assert all(torch.equal(merged[name], saved[name].bfloat16()) for name in merged)


def test_it_is_not_merged_without_a_rank_of_each_part(folder, tmp_path):
    shutil.copytree(folder / "global_step_1/actor", tmp_path / "actor")
    for rank in (1, 2, 3):
        (tmp_path / f"actor/model_world_size_4_rank_{rank}.pt").unlink()
    done = subprocess.run(
        command(tmp_path / "actor", tmp_path / "model", False), cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "has world_size=4, but there are 1 shards" in done.stderr
