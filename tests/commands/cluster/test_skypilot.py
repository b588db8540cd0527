"""docker/skypilot.yaml rents what its recipe needs, sets it up as the image is built, and runs scripts that exist."""

import re
import shlex

import pytest
import yaml
from balanced_agg.data.registry import CHOICES

from tests.composed import ROOT, compose_recipe

FILE = ROOT / "docker/skypilot.yaml"
DOCKERFILE = (ROOT / "docker/Dockerfile").read_text()


@pytest.fixture(scope="module")
def task() -> dict:
    return yaml.safe_load(FILE.read_text())


def test_the_machine_is_the_recipes_nodes_and_gpus(task):
    trainer = compose_recipe(task["envs"]["RECIPE"], *shlex.split(task["envs"]["OVERRIDES"])).trainer
    assert set(task["resources"]["accelerators"].values()) == {trainer.n_gpus_per_node}
    assert task.get("num_nodes", 1) == trainer.nnodes


def test_the_machine_is_set_up_as_the_image_is_built(task):
    assert f"FROM {task['resources']['image_id'].removeprefix('docker:')}\n" in DOCKERFILE
    for command in task["setup"].strip().split("\n"):
        assert command in DOCKERFILE


def test_it_prepares_what_the_recipe_trains_on_and_runs_scripts_that_exist(task):
    prepare, train = map(shlex.split, task["run"].split("&&"))
    assert prepare[2:] == ["prepare", "$DATA"] and train[2:] == ["$RECIPE", "$OVERRIDES"]
    assert (ROOT / prepare[1]).is_file() and (ROOT / train[1]).is_file()
    data = compose_recipe(task["envs"]["RECIPE"]).data
    written = {f"{dataset.name}.parquet" for name in task["envs"]["DATA"].split() for dataset in CHOICES[name]}
    assert {data.train_files.rpartition("/")[2], data.val_files.rpartition("/")[2]} <= written


def test_its_comments_name_recipes_data_and_variables_that_exist(task):
    named = dict(re.findall(r'--env (\w+)="?([\w.]+(?: [\w.]+)*)', FILE.read_text().partition("\nname:")[0]))
    assert set(named) <= set(task["envs"])
    assert (ROOT / f"recipes/{named['RECIPE']}.yaml").is_file() and set(named["DATA"].split()) <= set(CHOICES)


def test_no_secret_is_written_down(task):
    assert set(task["secrets"].values()) == {""}


def test_skypilot_itself_reads_it():
    sky = pytest.importorskip("sky")
    assert sky.Task.from_yaml(str(FILE)).run
