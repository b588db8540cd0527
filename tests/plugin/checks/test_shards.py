"""The ranks that weights are spread over divide all ranks, and are those of the checkpoint that a run resumes from."""

import pytest
import torch
from torch.distributed import destroy_process_group, init_process_group
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Replicate, Shard
from torch.testing._internal.distributed.fake_pg import FakeStore

from balanced_agg.plugin.checks.batches import check_parallelism
from balanced_agg.plugin.checks.outputs import check_resume
from tests.composed import compose_recipe

SIZE = "actor_rollout_ref.actor.fsdp_config.fsdp_size"


def composed(size: int, run="none"):
    ranks = ("trainer.nnodes=1", "trainer.n_gpus_per_node=4")
    return compose_recipe("arithmetic", *ranks, f"run.dir={run}", f"{SIZE}={size}")


@pytest.mark.parametrize("size", [-1, 1, 2, 4, 8])  # verl takes all ranks for -1, and where there are fewer
def test_a_copy_of_the_weights_may_be_on_any_ranks_that_divide_all(size):
    check_parallelism(composed(size))


@pytest.mark.parametrize("size", [0, 3])
def test_no_copy_is_on_ranks_that_do_not(size):
    with pytest.raises(ValueError, match=rf"{SIZE}={size} does not divide .* = 4 GPUs; set it to a divisor"):
        check_parallelism(composed(size))


@pytest.fixture
def save(tmp_path):
    """Leave a shard as verl does that spreads a copy over this many of four ranks."""
    init_process_group("fake", rank=0, world_size=4, store=FakeStore())

    def saved(ranks: int) -> None:
        shape, names = ((4,), ("fsdp",)) if ranks == 4 else ((4 // ranks, ranks), ("ddp", "fsdp"))
        placements = [Replicate(), Shard(0)][-len(shape) :]
        mesh = init_device_mesh("cpu", shape, mesh_dim_names=names)
        folder = tmp_path / "checkpoints/global_step_2/actor"
        folder.mkdir(parents=True)
        weight = DTensor.from_local(torch.ones(3), mesh, placements, run_check=False)
        torch.save({"weight": weight}, folder / "model_world_size_4_rank_0.pt")
        (tmp_path / "checkpoints/latest_checkpointed_iteration.txt").write_text("2")

    yield saved
    destroy_process_group()


@pytest.mark.parametrize(("saved", "fitting", "other"), [(4, (-1, 4, 8), 2), (2, (2,), -1), (1, (1,), 4)])
def test_a_run_resumes_with_the_shards_that_it_saved(save, tmp_path, saved, fitting, other):
    save(saved)
    for size in fitting:
        check_resume(composed(size, tmp_path))
    with pytest.raises(
        ValueError, match=rf"^{SIZE} spreads .* has them over {saved}; set it to {saved}; or set run.dir"
    ):
        check_resume(composed(other, tmp_path))


def test_a_shard_that_cannot_be_read_is_left_to_the_guard(save, tmp_path):
    save(2)
    (tmp_path / "checkpoints/global_step_2/actor/model_world_size_4_rank_0.pt").write_bytes(b"PK")
    check_resume(composed(-1, tmp_path))
