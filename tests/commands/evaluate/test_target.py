"""What the user names is found out before anything is launched, or refused with what to give."""

import pytest

from balanced_agg.commands.evaluate.recorded import may_run_code
from balanced_agg.commands.evaluate.target import last_of_each_key, resolve_target
from tests.composed import ROOT


def write_checkpoint(run, overrides="[]"):
    """The files of a verl FSDP checkpoint that matter here, in a run's folder."""
    actor = run / "checkpoints/global_step_20/actor"
    actor.mkdir(parents=True)
    (actor / "model_world_size_2_rank_0.pt").touch()
    (run / ".hydra").mkdir()
    (run / ".hydra/hydra.yaml").write_text("hydra: {job: {config_name: arithmetic}}")
    (run / ".hydra/overrides.yaml").write_text(overrides)
    return actor.parent


@pytest.mark.parametrize("part", ["", "actor"])
def test_a_checkpoint_brings_its_runs_recipe_and_gets_its_results_beside_it(tmp_path, part):
    checkpoint = write_checkpoint(tmp_path / "run")
    target = resolve_target(str(checkpoint / part))
    assert (target.recipe, target.shards) == ("arithmetic", checkpoint / "actor")
    assert target.results == checkpoint.parent / "global_step_20-evaluation"
    assert target.model == str(target.results / "model")


def test_a_checkpoint_brings_those_of_its_overrides_that_shape_a_validation(tmp_path):
    kept = [
        "hardware=1gpu",
        "data.max_response_length=40",
        "trainer.n_gpus_per_node=2",
        "arithmetic.regime=length_spread",
    ]
    dropped = [
        "run.seed=3",
        "trainer.total_training_steps=5",
        "data.train_batch_size=4",
        "actor_rollout_ref.actor.optim.lr=1",
        "actor_rollout_ref.model.path=/elsewhere",
        "+skip=this",
    ]
    checkpoint = write_checkpoint(tmp_path / "run", overrides=str(kept + dropped))
    assert resolve_target(str(checkpoint)).overrides == kept


HARMLESS = [
    "data.max_response_length=40",
    "data.val_files=[/data/a.parquet,b.parquet]",
    "data.val_files=${run.data_dir}/a.parquet",
    "reward.graders.tests_folders=[/data]",
    "data.val_files='/data/jörg (1)/a.parquet'",
    "actor_rollout_ref.rollout.val_kwargs.temperature=0.6",
    "actor_rollout_ref.rollout.val_kwargs={n: 4, do_sample: true}",
    "actor_rollout_ref.rollout.tensor_model_parallel_size=2",
    "reward.timeout=20.0",
    "data.seed=null",
    "hardware=8gpu",
    "aggregation=delta_l",
    "search.regime=length_gap",
    "search.dir=/data/search",
]


@pytest.mark.parametrize("override", HARMLESS)
def test_numbers_our_own_config_files_and_local_data_files_need_no_trust(override):
    assert not may_run_code(override)


# Besides those of tests/hostile_files/cases.py.
CODE = [
    "data.val_files=s3://bucket/a.parquet",
    "data.val_files=${oc.env:HOME}/a.parquet",
    "data.val_files=glob(*)",
    "search.dir=hdfs://host/search",
    "search.dir=${oc.env:HOME}",
    "search.other=/data",
    "hardware=cpu,8gpu",
    "hardware@package=cpu",
    "model=a/b",
    "data.prompt_key=${mine:x}",
    "reward={graders: {allow_unsandboxed_code: true}}",
    "a=[" * 2000,
    "no equals",
    "",
]


@pytest.mark.parametrize("override", CODE)
def test_any_other_override_does(override):
    assert may_run_code(override)


def test_a_run_whose_overrides_may_run_code_is_evaluated_on_the_users_word_or_under_a_named_recipe(tmp_path):
    overrides = ["reward.custom_reward_function.path=mine.py", "data.max_response_length=40"]
    checkpoint = str(write_checkpoint(tmp_path / "run", overrides=str(overrides)))
    with pytest.raises(
        ValueError, match=r"overrides\.yaml .*: reward\.custom_reward_function\.path=mine\.py\. .*--trust-code"
    ):
        resolve_target(checkpoint)
    assert resolve_target(checkpoint, trusted=True).overrides == overrides
    assert resolve_target(checkpoint, recipe="arithmetic").overrides == []


def test_a_named_recipe_wins_over_the_recorded_one(tmp_path):
    checkpoint = write_checkpoint(tmp_path / "run", overrides="[hardware=1gpu]")
    target = resolve_target(str(checkpoint), recipe="qwen3_1.7b_polaris")
    assert (target.recipe, target.overrides) == ("qwen3_1.7b_polaris", [])


def test_a_model_directory_needs_a_recipe_and_gets_its_results_beside_it(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/config.json").touch()
    target = resolve_target(str(tmp_path / "mine"), recipe="arithmetic")
    assert (target.shards, target.model) == (None, str(tmp_path / "mine"))
    assert target.results == tmp_path / "mine-evaluation"
    with pytest.raises(ValueError, match="--recipe"):
        resolve_target(str(tmp_path / "mine"))


def test_a_hub_id_finds_the_recipe_that_trains_it():
    target = resolve_target("Qwen/Qwen3-1.7B")
    assert target.recipe.startswith("qwen3_1.7b_")
    assert target.results == ROOT / "outputs/Qwen_Qwen3-1.7B-evaluation"


@pytest.mark.parametrize("name", ["/nowhere/at/all", "nonsense", "./a/b/c"])
def test_what_is_none_of_the_three_is_refused(name):
    with pytest.raises(ValueError, match="neither a verl checkpoint"):
        resolve_target(name)


def test_an_unknown_recipe_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"recipes: .*arithmetic"):
        resolve_target("Qwen/Qwen3-1.7B", recipe="arithmetics")


def test_of_overrides_that_repeat_a_key_the_last_stays():
    assert last_of_each_key(["hardware=cpu", "a.b=1", "hardware=1gpu"]) == ["hardware=1gpu", "a.b=1"]
