"""What a recipe asks for, held against what is there."""

import shutil
from types import SimpleNamespace

import pytest

from balanced_agg.commands.doctor.check import FAIL, OK, WARN
from balanced_agg.commands.doctor.recipe_lines import check_recipe
from tests.commands.doctor.facts import GPU, cluster, gpu_facts, recipe_facts


def lines(facts):
    return {check.check: check for check in check_recipe(facts, "some_recipe")}


def test_enough_gpus_on_this_machine_are_ok_and_one_too_few_is_a_failure():
    facts = recipe_facts()
    assert lines(facts)["placement"].status == OK
    facts.verl["accelerators"]["devices"] = [GPU] * 7
    placement = lines(facts)["placement"]
    assert placement.status == FAIL and placement.remedy == "set trainer.n_gpus_per_node=7"


def test_logical_gpus_of_the_config_stand_for_ranks_on_cpu():
    facts = recipe_facts(ranks_a_node=2, num_gpus=2, device="cpu")
    facts.verl["accelerators"]["devices"] = []
    found = lines(facts)
    assert found["placement"].status == OK and "ranks on CPU" in found["recipe"].detail


def test_several_nodes_without_a_cluster_are_a_failure():
    assert "ray start" in lines(recipe_facts(nodes=4))["placement"].remedy


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


def test_a_size_for_a_cluster_that_is_running_is_refused_as_ray_does():
    facts = recipe_facts(num_cpus=64, object_store=10**9)
    assert "ray_init" not in lines(facts)
    facts.ray = cluster((64, 8))
    line = lines(facts)["ray_init"]
    assert line.status == FAIL
    assert "ray_kwargs.ray_init.num_cpus=null ray_kwargs.ray_init.object_store_memory=null" in line.remedy


def test_a_model_that_offline_mode_cannot_download_is_a_failure():
    model = {"path": "owner/name", "kind": "hub", "present": False, "offline": False}
    assert lines(recipe_facts(model=model))["model"].status == WARN
    assert lines(recipe_facts(model=model | {"offline": True}))["model"].status == FAIL
    assert lines(recipe_facts(model=model | {"present": True, "offline": True}))["model"].status == OK
    assert lines(recipe_facts(model={"path": "/m", "kind": "folder", "present": False}))["model"].status == FAIL


def test_training_files_count_together_for_one_step():
    files = [{"key": "data.train_files", "file": f"/{name}.parquet", "rows": 256} for name in "ab"]
    enough = list(check_recipe(recipe_facts(data=files), "r"))
    assert FAIL not in {check.status for check in enough}
    files[1]["rows"] = 255
    short = [check for check in check_recipe(recipe_facts(data=files), "r") if check.status == FAIL]
    assert [check.remedy for check in short] == ["set data.train_batch_size to 511 or less"]


def test_a_data_file_without_rows_is_a_failure():
    files = [{"key": "data.val_files", "file": "/v.parquet", "rows": 0}]
    assert lines(recipe_facts(data=files))["val_files"].status == FAIL


def test_checkpoints_are_16_bytes_a_parameter_each(monkeypatch):
    # 2 checkpoints x 2 billion parameters x 16 bytes = 64 GB
    for free, status in ((64 * 10**9, OK), (64 * 10**9 - 1, FAIL)):
        monkeypatch.setattr(shutil, "disk_usage", lambda path, free=free: SimpleNamespace(free=free))
        line = lines(recipe_facts(checkpoints=2))["checkpoints"]
        assert (line.status, "2 x 32 GB" in line.detail) == (status, True)


def test_checkpoints_without_a_limit_or_of_an_unknown_size_are_not_guessed():
    assert lines(recipe_facts(checkpoints=None))["checkpoints"].status == WARN
    assert "unknown size" in lines(recipe_facts(checkpoints=2, model_size="tiny"))["checkpoints"].detail


def test_every_refusal_is_a_failure_whose_remedy_is_its_last_clause():
    refusals = (
        {"check": "aggregation", "error": "n=1: no two signs; set it to 2 or more"},
        {"check": "verl's validation", "error": "batch sizes do not divide"},
    )
    found = lines(recipe_facts(refusals=refusals))
    first, second = found["refused: aggregation"], found["refused: verl's validation"]
    assert (first.status, first.detail, first.remedy) == (FAIL, "n=1: no two signs", "set it to 2 or more")
    assert (second.status, second.detail, second.remedy) == (FAIL, "batch sizes do not divide", "")


def test_a_recipe_that_cannot_be_examined_is_one_failure():
    (line,) = check_recipe(gpu_facts(recipe={"error": "RuntimeError: boom"}), "r")
    assert line.status == FAIL and "boom" in line.detail


def test_nothing_is_said_of_a_recipe_where_verl_did_not_answer():
    facts = gpu_facts()
    facts.verl = {"error": "crashed"}
    assert list(check_recipe(facts, "r")) == []
