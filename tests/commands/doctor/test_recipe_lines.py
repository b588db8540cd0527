"""What a recipe asks for, held against what is there."""

import shutil
from types import SimpleNamespace

import pytest

from balanced_agg.commands.doctor.check import FAIL, OK, WARN
from balanced_agg.commands.doctor.recipe_lines import check_recipe
from tests.commands.doctor.facts import cluster, gpu_facts, recipe_facts


def lines(facts):
    return {check.check: check for check in check_recipe(facts, "some_recipe")}


def test_logical_gpus_of_the_config_stand_for_ranks_on_cpu():
    facts = recipe_facts(ranks_a_node=2, num_gpus=2, device="cpu")
    facts.verl["accelerators"]["devices"] = []
    found = lines(facts)
    assert found["placement"].status == OK and "ranks on CPU" in found["recipe"].detail


@pytest.mark.parametrize(
    ("there", "status"),
    [
        (cluster((64, 8), (64, 8)), OK),
        (cluster((64, 8), (64, 8), free=(128, 8)), WARN),
        (cluster((64, 8), (64, 7)), FAIL),  # a node short of a GPU
        (cluster((64, 8), (23, 8)), FAIL),  # a node short of a CPU: 8 ranks x 3
        (cluster((256, 16)), FAIL),  # enough in all, but on one node
    ],
)
def test_each_node_of_a_cluster_must_hold_the_ranks_of_one(there, status):
    facts = recipe_facts(nodes=2, ray_cpus=58)
    facts.ray = there
    assert lines(facts)["placement"].status == status


def test_a_cluster_short_of_the_cpus_of_storage_units_is_a_failure():
    facts = recipe_facts(nodes=2, ray_cpus=58)
    facts.ray = cluster((28, 8), (29, 8))
    assert lines(facts)["placement"].status == FAIL
    facts.ray = cluster((29, 8), (29, 8))
    assert lines(facts)["placement"].status == OK


def test_a_model_that_verl_would_download_is_a_warning():
    model = {"path": "owner/name", "kind": "hub", "cached": False}
    assert lines(recipe_facts(model=model))["model"].status == WARN
    assert lines(recipe_facts(model=model | {"cached": True}))["model"].status == OK


def test_checkpoints_are_16_bytes_a_parameter_each(monkeypatch):
    # 2 checkpoints x 2 billion parameters x 16 bytes = 64 GB
    for free, status in ((64 * 10**9, OK), (64 * 10**9 - 1, FAIL)):
        monkeypatch.setattr(shutil, "disk_usage", lambda path, free=free: SimpleNamespace(free=free))
        line = lines(recipe_facts(checkpoints=2))["checkpoints"]
        assert (line.status, "2 x 32 GB" in line.detail) == (status, True)


def test_checkpoints_without_a_limit_or_of_an_unknown_size_are_not_guessed():
    assert lines(recipe_facts(checkpoints=None))["checkpoints"].status == WARN
    assert "unknown size" in lines(recipe_facts(checkpoints=2, model_size="tiny"))["checkpoints"].detail


def test_a_refusal_is_a_failure_and_takes_the_place_of_other_lines_on_its_subject():
    cpus = {"check": "ray_cpus", "what": "num_cpus: Ray would wait forever", "remedy": "set it to 34"}
    validation = {"check": "verl's validation", "what": "batch sizes do not divide", "remedy": ""}
    found = lines(recipe_facts(refusals=(cpus, validation)))
    first, second = found["refused: ray_cpus"], found["refused: verl's validation"]
    assert (first.status, first.detail, first.remedy) == (FAIL, "num_cpus: Ray would wait forever", "set it to 34")
    assert (second.status, second.remedy) == (FAIL, "")
    assert "placement" not in found and "placement" in lines(recipe_facts(refusals=(validation,)))


def test_a_recipe_that_cannot_be_examined_is_one_failure():
    (line,) = check_recipe(gpu_facts(recipe={"error": "RuntimeError: boom"}), "r")
    assert line.status == FAIL and "boom" in line.detail


def test_nothing_is_said_of_a_recipe_where_verl_did_not_answer():
    facts = gpu_facts()
    facts.verl = {"error": "crashed"}
    assert list(check_recipe(facts, "r")) == []
