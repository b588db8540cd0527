"""Shards as verl's FSDP2 leaves them are merged in a process in which torch.load makes tensors alone."""

import json
import subprocess
import sys

import pytest
import torch

from balanced_agg.commands.evaluate.merge import command
from tests.composed import ROOT

# Each rank's part of a model as DTensors over a mesh of two, made by one process that stands in for both.
SHARDS = """
import json, sys
from pathlib import Path
import torch
from torch.distributed import destroy_process_group, init_process_group
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Shard
from torch.testing._internal.distributed.fake_pg import FakeStore
from balanced_agg.arithmetic.model import build_model
from balanced_agg.arithmetic.tokenizer import build_tokenizer

folder, model = Path(sys.argv[1]), build_model(seed=0)
for rank in range(2):
    init_process_group("fake", rank=rank, world_size=2, store=FakeStore())
    mesh = init_device_mesh("cpu", (2,), mesh_dim_names=("fsdp",))
    parts = {name: tensor.chunk(2)[rank].clone() for name, tensor in model.state_dict().items()}
    state = {name: DTensor.from_local(part, mesh, [Shard(0)], run_check=False) for name, part in parts.items()}
    torch.save(state, folder / f"model_world_size_2_rank_{rank}.pt")
    destroy_process_group()
(folder / "fsdp_config.json").write_text(json.dumps({"FSDP_version": 2, "world_size": 2}))
model.config.architectures = [type(model).__name__]
model.config.save_pretrained(folder / "huggingface")
build_tokenizer().save_pretrained(folder / "huggingface")
torch.save(model.state_dict(), folder.with_name("whole.pt"))
"""


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoint") / "actor"
    folder.mkdir()
    subprocess.run([sys.executable, "-c", SHARDS, str(folder)], check=True, cwd=ROOT, capture_output=True)
    return folder


@pytest.mark.evidence  # tests/end_to_end/test_evaluate.py has a checkpoint of a real run
def test_shards_of_two_ranks_are_the_whole_model_in_bf16(shards, tmp_path):
    from safetensors.torch import load_file

    done = subprocess.run(command(shards, tmp_path / "model", trusted=False), cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    merged, whole = load_file(tmp_path / "model/model.safetensors"), torch.load(shards.with_name("whole.pt"))
    assert merged.keys() == whole.keys()
    assert all(torch.equal(merged[name], whole[name].bfloat16()) for name in whole)


@pytest.mark.evidence
def test_a_shard_that_is_missing_is_told_by_one_line(shards):
    (shards / "model_world_size_2_rank_1.pt").rename(shards / "kept")
    try:
        done = subprocess.run(command(shards, shards / "model", False), cwd=ROOT, capture_output=True, text=True)
    finally:
        (shards / "kept").rename(shards / "model_world_size_2_rank_1.pt")
    assert done.returncode == 2
    assert done.stderr == (
        f"balanced-agg evaluate: {shards}/fsdp_config.json has world_size=2, but there are 1 shards\n"
    )


@pytest.mark.slow
def test_only_the_word_of_the_user_leaves_the_unpickling_to_verl(shards, tmp_path):
    trusted, cautious = (command(shards, tmp_path, trusted) for trusted in (True, False))
    assert "verl.model_merger" in trusted and "verl.model_merger" not in cautious
    assert json.dumps(trusted).count(str(shards)) == 1
