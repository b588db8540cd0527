"""Recipes compose, say only what differs, and the scripts that name them tell the truth."""

import re
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from tests.composed import ROOT, compose_recipe

RECIPES = sorted(path.stem for path in (ROOT / "recipes").glob("*.yaml"))
SCRIPTS = sorted((ROOT / "scripts").glob("*.sh"))
MODE_OF = {
    "balanced": "balanced",
    "token": "group-token-mean",
    "sequence": "seq-mean-token-mean",
    "batch_token": "token-mean",
}


def leaves(config: DictConfig, prefix: str = "") -> dict[str, object]:
    """Dotted key -> value as written, interpolations unresolved."""
    found = {}
    for key, value in OmegaConf.to_container(config, resolve=False).items():
        name = f"{prefix}{key}"
        found |= leaves(OmegaConf.create(value), f"{name}.") if isinstance(value, dict) and value else {name: value}
    return found


def own_and_inherited(recipe: str, folder: Path) -> tuple[DictConfig, DictConfig]:
    """What the recipe's file sets, and what it would be without."""
    written = OmegaConf.load(ROOT / "recipes" / f"{recipe}.yaml")
    inherited = OmegaConf.create({"defaults": [entry for entry in written.pop("defaults") if entry != "_self_"]})
    (folder / "inherited.yaml").write_text(OmegaConf.to_yaml(inherited))
    return written, compose_recipe("inherited", folder=folder)


@pytest.mark.parametrize("aggregation", MODE_OF)
@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_composes_with_every_aggregation_and_resolves(recipe, aggregation):
    config = compose_recipe(recipe, f"aggregation={aggregation}", "run.seed=7")
    OmegaConf.resolve(config)
    mode = MODE_OF[aggregation]
    assert config.actor_rollout_ref.actor.loss_agg_mode == mode
    assert config.trainer.experiment_name == f"{recipe}-{mode}-seed7"
    assert config.ray_kwargs.ray_init.runtime_env.env_vars.WANDB_RUN_GROUP == f"{recipe}-{mode}"


def test_every_aggregation_file_is_covered_above():
    assert {path.stem for path in (ROOT / "configs/aggregation").glob("*.yaml")} == set(MODE_OF)


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_repeats_no_value_that_it_inherits(recipe, tmp_path):
    written, inherited = own_and_inherited(recipe, tmp_path)
    base = leaves(inherited)
    assert {key: value for key, value in leaves(written).items() if base.get(key, "absent") == value} == {}


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_sets_only_keys_that_exist(recipe, tmp_path):
    written, inherited = own_and_inherited(recipe, tmp_path)
    for key in leaves(written):
        parent, _, name = key.rpartition(".")
        assert name in list(OmegaConf.select(inherited, parent)), f"{key} is not a key of the base config"


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_knows_its_name(recipe):
    assert compose_recipe(recipe).run.recipe == recipe


@pytest.mark.parametrize("group", ["base.yaml", "model", "train_data", "aggregation", "hardware"])
def test_no_config_hides_a_dead_key_behind_a_plus(group):
    path = ROOT / "configs" / group
    for file in [path] if path.is_file() else path.glob("*.yaml"):
        assert not re.search(r"^\s*\+", file.read_text(), flags=re.MULTILINE), file


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_thin_and_hand_on_what_they_are_given(script):
    text = script.read_text()
    lines = text.splitlines()
    assert len(lines) <= 40
    assert lines[1].startswith("# "), "the second line says what the script does"
    assert "set -euo pipefail" in text
    assert not re.search(r"\bpkill|killall|ray stop\b", text)
    assert "$*" not in text and not re.search(r'(?<!")\$@', text)
    if '"$@"' in text:
        assert text.rstrip().endswith('"$@"')


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_name_recipes_that_exist(script):
    named = re.findall(r"train\.sh ([a-z][\w.]*)", script.read_text())
    assert set(named) <= set(RECIPES)


def test_the_readme_names_recipes_and_files_that_exist():
    readme = (ROOT / "README.md").read_text()
    assert set(re.findall(r"train\.sh ([a-z][\w.]*)", readme)) <= set(RECIPES)
    tree = readme.split("## The tree")[1]
    for name in re.findall(r"^    (\S+) ", tree, flags=re.MULTILINE):
        assert (ROOT / name).exists(), name
