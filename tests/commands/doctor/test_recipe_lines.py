"""What a recipe asks for, held against what is there."""

import shutil
from types import SimpleNamespace

import pytest

from balanced_agg.commands.doctor import recipe_lines
from balanced_agg.commands.doctor.check import FAIL, OK, WARN, Check
from balanced_agg.commands.doctor.recipe import Recipe
from balanced_agg.commands.doctor.recipe_lines import check_recipe, placement
from tests.composed import compose_recipe

GPU_RECIPE = "qwen3_1.7b_dapo17k"


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch):
    monkeypatch.setattr(recipe_lines, "cluster", lambda recipe: None)
    monkeypatch.setenv("BALANCED_AGG_GUARD", "1")


def recipe_of(*overrides: str, refusals: tuple[Check, ...] = ()) -> Recipe:
    return Recipe(GPU_RECIPE, compose_recipe(GPU_RECIPE, *overrides), refusals=refusals)


def lines(*overrides: str, **options):
    return {check.check: check for check in check_recipe(recipe_of(*overrides, **options))}


def test_the_recipe_and_what_it_asks_for_are_named():
    found = lines("hardware=4x8gpu", "aggregation=token")
    assert found["recipe"].detail == f"{GPU_RECIPE}: loss_agg_mode=group-token-mean, 4 x 8 GPUs"
    # 32 ranks x 3, 8 storage units, TransferQueue's controller and one free
    assert "asked: 4 x (8 GPUs, 24 CPUs), 106 CPUs in all" in found["placement"].detail


def test_ranks_on_cpu_are_called_so():
    recipe = Recipe("arithmetic", compose_recipe("arithmetic", "trainer.n_gpus_per_node=2"))
    found = {check.check: check for check in check_recipe(recipe)}
    assert "1 x 2 ranks on CPU" in found["recipe"].detail
    assert "here: 2 GPUs" in found["placement"].detail  # logical ones


def cluster_of(*nodes: tuple[int, int], free: tuple[int, int] | None = None):
    """What Ray says of nodes of (CPUs, GPUs)."""
    cpus, gpus = free or (sum(node[0] for node in nodes), sum(node[1] for node in nodes))
    resources = [{"CPU": float(cpu), "GPU": float(gpu)} for cpu, gpu in nodes]
    return {"nodes": resources, "free": {"CPU": float(cpus), "GPU": float(gpus)}}


@pytest.mark.parametrize(
    ("there", "status"),
    [
        (cluster_of((64, 8), (64, 8)), OK),
        (cluster_of((64, 8), (64, 8), free=(128, 8)), WARN),
        (cluster_of((64, 8), (64, 7)), FAIL),  # a node short of a GPU
        (cluster_of((64, 8), (23, 8)), FAIL),  # a node short of a CPU: 8 ranks x 3
        (cluster_of((256, 16)), FAIL),  # enough in all, but on one node
        (cluster_of((29, 8), (29, 8)), OK),  # 16 ranks x 3, 8 storage units and 2
        (cluster_of((28, 8), (29, 8)), FAIL),  # short of a CPU for a storage unit
    ],
)
def test_each_node_of_a_cluster_must_hold_the_ranks_of_one(there, status):
    assert placement(recipe_of("hardware=8gpu", "trainer.nnodes=2"), there).status == status


def test_a_cluster_that_cannot_be_asked_is_no_line_here(monkeypatch):
    monkeypatch.setattr(recipe_lines, "cluster", lambda recipe: {"error": "no answer within 20 s"})
    assert "placement" not in lines()


def test_a_model_that_verl_would_download_is_a_warning(monkeypatch):
    cached = {"Qwen/Qwen3-1.7B": None}
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda name, file: cached[name])
    assert lines()["model"].status == WARN
    cached["Qwen/Qwen3-1.7B"] = "/cache/config.json"
    assert lines()["model"].status == OK


def test_checkpoints_are_16_bytes_a_parameter_each(monkeypatch):
    # 2 are kept and one is being saved: 3 checkpoints x 2 billion parameters x 16 bytes = 96 GB
    for free, status in ((96 * 10**9, OK), (96 * 10**9 - 1, FAIL)):
        monkeypatch.setattr(shutil, "disk_usage", lambda path, free=free: SimpleNamespace(free=free))
        line = lines()["checkpoints"]
        assert (line.status, "at most 3 x 32 GB" in line.detail) == (status, True)


def test_checkpoints_without_a_limit_or_of_an_unknown_size_are_not_guessed():
    without = ("trainer.max_actor_ckpt_to_keep=null", "trainer.total_training_steps=null")
    assert lines(*without)["checkpoints"].status == WARN
    arithmetic = compose_recipe("arithmetic", "run.model_size=tiny")
    found = {check.check: check for check in check_recipe(Recipe("arithmetic", arithmetic))}
    assert "unknown size" in found["checkpoints"].detail


def test_a_refusal_is_a_failure_and_takes_the_place_of_other_lines_on_its_subject():
    cpus = Check("refused: ray_cpus", FAIL, "num_cpus: Ray would wait forever", "set it to 34")
    validation = Check("refused: verl's validation", FAIL, "batch sizes do not divide")
    found = lines(refusals=(cpus, validation))
    assert (found["refused: ray_cpus"], found["refused: verl's validation"]) == (cpus, validation)
    assert "placement" not in found and "placement" in lines(refusals=(validation,))


def test_what_comes_of_a_refused_value_is_no_crash():
    numbers = Check("refused: numbers", FAIL, "trainer.n_gpus_per_node=None", "set it to a whole number of at least 1")
    found = lines("trainer.n_gpus_per_node=null", refusals=(numbers,))
    assert [name for name, check in found.items() if check.status == FAIL] == ["refused: numbers"]
    with pytest.raises(TypeError):  # nothing is hidden where nothing is refused
        lines("trainer.n_gpus_per_node=null")


def test_without_a_recipe_there_is_no_line():
    assert list(check_recipe(Recipe())) == []
