"""Recipes compose, say only what differs, and the scripts that name them tell the truth."""

import inspect
import re
from itertools import cycle, product

import numpy as np
import pytest
import torch
from hydra.errors import ConfigCompositionException
from omegaconf import DictConfig, OmegaConf
from verl import DataProto
from verl.trainer.ppo.reward import load_reward_manager
from verl.utils.config import omega_conf_to_dataclass, validate_config
from verl.workers.config.optimizer import build_optimizer

from balanced_agg.arithmetic.tasks import TASKS
from balanced_agg.arithmetic.tokenizer import build_tokenizer
from balanced_agg.commands import recipes
from balanced_agg.loss.rules import AGGREGATIONS
from balanced_agg.plugin import checks as launch_checks
from balanced_agg.plugin.checks.cluster import needed_cpus
from balanced_agg.rewards import compute_score
from tests.composed import ROOT, compose_recipe, stand_in_data

RECIPES = sorted(path.stem for path in (ROOT / "recipes").glob("*.yaml"))
# One of ours, one of verl's, one with a parameter; the others as evidence.
SOME = ("balanced", "sequence", "sign_weights")
SOME_AGGREGATIONS = [
    pytest.param(name, marks=() if name in SOME else pytest.mark.evidence) for name in sorted(AGGREGATIONS)
]
SCRIPTS = sorted((ROOT / "scripts").glob("*.sh"))
# File of configs/hardware -> (nodes, GPUs a node)
TOPOLOGY = {"cpu": (1, 1), "1gpu": (1, 1), "8gpu": (1, 8), "4x8gpu": (4, 8)}
PAPER_RECIPES = [f"{model}_{data}" for model in ("qwen2.5_math_7b", "qwen3_1.7b") for data in ("dapo17k", "polaris")]


def leaves(config: DictConfig, prefix: str = "") -> dict[str, object]:
    """Dotted key -> value as written, interpolations unresolved."""
    found = {}
    for key, value in OmegaConf.to_container(config, resolve=False).items():
        name = f"{prefix}{key}"
        found |= leaves(OmegaConf.create(value), f"{name}.") if isinstance(value, dict) and value else {name: value}
    return found


@pytest.fixture(scope="module", params=RECIPES)
def own_and_inherited(request, tmp_path_factory) -> tuple[DictConfig, DictConfig]:
    """What the recipe's file sets, and what it would be without."""
    written = OmegaConf.load(ROOT / "recipes" / f"{request.param}.yaml")
    inherited = OmegaConf.create({"defaults": [entry for entry in written.pop("defaults") if entry != "_self_"]})
    folder = tmp_path_factory.mktemp("inherited")
    (folder / "inherited.yaml").write_text(OmegaConf.to_yaml(inherited))
    return written, compose_recipe("inherited", folder=folder)


@pytest.mark.parametrize("aggregation", SOME_AGGREGATIONS)
def test_a_recipe_composes_and_resolves_with_every_aggregation(aggregation):
    recipe, mode = "qwen3_1.7b_dapo17k", AGGREGATIONS[aggregation]
    config = compose_recipe(recipe, f"aggregation={aggregation}", "run.seed=7")
    OmegaConf.resolve(config)
    assert config.actor_rollout_ref.actor.loss_agg_mode == mode
    assert config.trainer.experiment_name == f"{recipe}-{mode}-seed7"
    assert f"{recipe}-{mode}" == config.ray_kwargs.ray_init.runtime_env.env_vars.WANDB_RUN_GROUP


def test_a_config_with_values_set_on_a_copy_is_the_one_that_hydra_composes():
    overrides = [
        "trainer.nnodes=2",
        "hardware=8gpu",
        "data.train_files='a b'",
        "data.val_files=[x,y]",
        "+data.more={a:1}",
        "~trainer.test_freq",
        "++trainer.save_freq=7",
        "actor_rollout_ref.actor.optim.lr=${trainer.nnodes}",
    ]
    expected = recipes.compose_recipe("arithmetic", overrides)
    for _ in range(2):
        assert compose_recipe("arithmetic", *overrides) == expected
    assert compose_recipe("arithmetic", "hardware=8gpu").trainer.nnodes == 1
    with pytest.raises(ConfigCompositionException, match="no_such"):
        compose_recipe("arithmetic", "trainer.no_such=1")


@pytest.mark.parametrize("recipe", RECIPES)
def test_wandb_tells_mode_model_data_and_seed_of_every_run(recipe):
    config = compose_recipe(recipe, "aggregation=token", "run.seed=7")
    variables = config.ray_kwargs.ray_init.runtime_env.env_vars
    mode, model, train_data, seed = variables.WANDB_TAGS.split(",")
    assert (mode, seed, variables.WANDB_JOB_TYPE) == ("group-token-mean", "seed7", "train")
    if recipe not in TASKS:
        assert recipe.removesuffix("_own") == f"{model}_{train_data}"


@pytest.mark.parametrize("switch", ["BALANCED_AGG_CHECKS", "BALANCED_AGG_GUARD", "BALANCED_AGG_METRICS"])
def test_every_process_of_a_run_has_the_plugins_parts_switched_on_unless_the_user_says_otherwise(monkeypatch, switch):
    def reached() -> str:
        return compose_recipe("arithmetic").ray_kwargs.ray_init.runtime_env.env_vars[switch]

    monkeypatch.delenv(switch, raising=False)
    assert reached() == "1"
    monkeypatch.setenv(switch, "0")
    assert reached() == "0"


def test_adam_on_the_host_has_threads_unless_the_user_says_otherwise(monkeypatch):
    def threads(hardware: str) -> str:
        config = compose_recipe("arithmetic", f"hardware={hardware}")
        return config.ray_kwargs.ray_init.runtime_env.env_vars["OMP_NUM_THREADS"]

    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert int(threads("1gpu")) > int(threads("cpu")) == 1
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert threads("1gpu") == threads("cpu") == "3"


@pytest.mark.parametrize(("hardware", "fused"), [("1gpu", True), ("8gpu", None)])
def test_adam_on_one_gpu_is_the_fused_one_as_verl_builds_it(hardware, fused):
    config = omega_conf_to_dataclass(compose_recipe("arithmetic", f"hardware={hardware}").actor_rollout_ref.actor.optim)
    optimizer = build_optimizer([torch.nn.Parameter(torch.ones(1))], config)
    assert type(optimizer) is torch.optim.AdamW and optimizer.defaults["fused"] is fused


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_machine_with_8_cpus_is_enough_for_one_gpu(recipe):
    assert needed_cpus(compose_recipe(recipe, "hardware=1gpu")) <= 8


def test_hardware_files_have_the_same_rows_and_columns():
    tables = {name: compose_recipe("arithmetic", f"hardware={name}").sizes for name in TOPOLOGY}
    columns = {name: {tuple(row) for row in table.values()} for name, table in tables.items()}
    assert len({tuple(table) for table in tables.values()}) == 1
    assert all(len(found) == 1 for found in columns.values()), "rows of one file"
    own = {"offload_policy"}  # of 1gpu
    assert len({frozenset(*found) - own for found in columns.values()}) == 1


def test_every_aggregation_and_hardware_file_is_covered_above():
    assert {path.stem for path in (ROOT / "configs/aggregation").glob("*.yaml")} == set(AGGREGATIONS)
    assert {path.stem for path in (ROOT / "configs/hardware").glob("*.yaml")} == set(TOPOLOGY)


@pytest.fixture
def accept(tmp_path, monkeypatch):
    """Put a combination through verl's own validation, with our launch checks in it; the config that passed."""

    def accepted(recipe: str, hardware: str, *overrides: str) -> DictConfig:
        monkeypatch.setenv("VERL_PLATFORM", "cpu" if hardware == "cpu" else "")
        # Contracts import verl's trainer at a launch, which needs the platform from the start.
        for part in ("loss", "guard"):
            monkeypatch.setattr(f"balanced_agg.plugin.{part}.in_verl.misfits", lambda wrappers: [])
        monkeypatch.setattr("balanced_agg.plugin.checks.packages.flash_attn_problem", lambda: None)
        need_the_machine = ("check_torch", "check_chat_template", "check_cluster", "check_gpus")
        checks = tuple(check for check in launch_checks.CHECKS if check.__name__ not in need_the_machine)
        monkeypatch.setattr(launch_checks, "CHECKS", checks)
        own = (f"run.dir={tmp_path}/run", "ray_kwargs.ray_init.num_cpus=128")
        config = compose_recipe(recipe, f"hardware={hardware}", *own, *overrides)
        stand_in_data(config, tmp_path)
        validate_config(config, use_reference_policy=False, use_critic=False)
        return config

    return accepted


# Each recipe and each hardware once; the other pairs in the slow tier.
ONCE = list(zip(RECIPES, cycle(TOPOLOGY), strict=False))
# Of a recipe whose optimizer step has fewer responses than the hardware has ranks.
NEEDED = {("search", "4x8gpu"): ["actor_rollout_ref.actor.ppo_mini_batch_size=4"]}


@pytest.mark.parametrize(
    ("recipe", "hardware"),
    [pytest.param(*pair, marks=[] if pair in ONCE else pytest.mark.slow) for pair in product(RECIPES, TOPOLOGY)],
)
def test_verl_and_our_launch_checks_accept_every_recipe_on_every_hardware(accept, recipe, hardware):
    config = accept(recipe, hardware, *NEEDED.get((recipe, hardware), []))
    assert (config.trainer.nnodes, config.trainer.n_gpus_per_node) == TOPOLOGY[hardware]
    ranks = config.trainer.nnodes * config.trainer.n_gpus_per_node
    assert ranks % config.actor_rollout_ref.actor.ulysses_sequence_parallel_size == 0
    assert config.trainer.n_gpus_per_node % config.actor_rollout_ref.rollout.tensor_model_parallel_size == 0


@pytest.mark.parametrize("aggregation", SOME_AGGREGATIONS)
def test_verl_and_our_launch_checks_accept_every_aggregation(accept, aggregation):
    assert (
        accept("arithmetic", "cpu", f"aggregation={aggregation}").actor_rollout_ref.actor.loss_agg_mode
        == AGGREGATIONS[aggregation]
    )


@pytest.mark.evidence
@pytest.mark.parametrize("hardware", TOPOLOGY)
@pytest.mark.parametrize("aggregation", AGGREGATIONS)
@pytest.mark.parametrize("recipe", RECIPES)
def test_every_combination_is_accepted_and_resolves(accept, recipe, aggregation, hardware):
    config = accept(recipe, hardware, f"aggregation={aggregation}")
    OmegaConf.resolve(config)
    assert config.actor_rollout_ref.actor.loss_agg_mode == AGGREGATIONS[aggregation]


@pytest.mark.parametrize("recipe", PAPER_RECIPES)
def test_the_papers_runs_differ_in_model_and_data_only(recipe):
    def shared(name: str) -> dict[str, object]:
        config = leaves(compose_recipe(name, "actor_rollout_ref.model.path=x", "run.model_size=x", "run.recipe=x"))
        differing = (
            "run.model",
            "run.train_data",
            "data.train_files",
            "actor_rollout_ref.model.override_config",
            "actor_rollout_ref.rollout.engine_",
        )
        return {key: value for key, value in config.items() if not key.startswith(differing)}

    assert shared(recipe) == shared(PAPER_RECIPES[0])


def test_the_grader_options_of_the_config_are_the_defaults_of_compute_score():
    options = compose_recipe("arithmetic").reward.custom_reward_function.reward_kwargs
    parameters = inspect.signature(compute_score).parameters
    assert {name: parameters[name].default for name in ("time_limit", "processes")} == {
        name: options[name] for name in ("time_limit", "processes")
    }
    assert set(options) <= set(parameters)


def test_the_overlong_penalty_reaches_verls_reward_manager():
    """Through the manager that verl builds from the recipe, not through a key that nobody reads."""
    config = compose_recipe("qwen3_1.7b_polaris")
    tokenizer = build_tokenizer()
    manager = load_reward_manager(config, tokenizer)

    def reward(tokens: int) -> float:
        budget = config.data.max_response_length
        sample = {
            "responses": torch.full((1, budget), tokenizer.pad_token_id),
            "attention_mask": (torch.arange(budget) < tokens).long()[None],
        }
        extra = {
            "data_source": np.array(["arithmetic"], dtype=object),
            "reward_model": np.array([{"ground_truth": "3"}], dtype=object),
            "extra_info": np.array([{}], dtype=object),
        }
        graded = manager.loop.run_until_complete(manager.run_single(DataProto.from_dict(sample, extra)))
        return float(graded["reward_score"])

    assert [reward(tokens) for tokens in (1, 4096, 6144, 8192)] == [0, 0, -0.25, -0.5]


def test_a_recipe_repeats_no_value_that_it_inherits(own_and_inherited):
    written, inherited = own_and_inherited
    base = leaves(inherited)
    assert {key: value for key, value in leaves(written).items() if base.get(key, "absent") == value} == {}


def test_a_recipe_sets_only_keys_that_exist(own_and_inherited):
    written, inherited = own_and_inherited
    for key in leaves(written):
        parent, _, name = key.rpartition(".")
        assert name in list(OmegaConf.select(inherited, parent)), f"{key} is not a key of the base config"


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_knows_its_name(recipe):
    assert OmegaConf.load(ROOT / "recipes" / f"{recipe}.yaml").run.recipe == recipe


@pytest.mark.parametrize("file", sorted((ROOT / "configs").rglob("*.yaml")), ids=lambda path: path.stem)
def test_no_config_hides_a_dead_key_behind_a_plus(file):
    assert not re.search(r"^\s*\+", file.read_text(), flags=re.MULTILINE)


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
        assert any(line.endswith(' "$@"') for line in lines), "what the user adds comes last"


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_name_recipes_that_exist(script):
    named = re.findall(r"train\.sh ([a-z][\w.]*)", script.read_text())
    assert set(named) <= set(RECIPES)
