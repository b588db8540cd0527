"""What cannot work is refused before Ray starts, by a message that names the key to change."""

import re
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from verl.trainer.ppo.core_algos import ADV_ESTIMATOR_REGISTRY
from verl.utils.config import validate_config

from balanced_agg import launch_checks
from balanced_agg.arithmetic.tokenizer import build_tokenizer
from balanced_agg.launch_checks import UNGROUPED_ESTIMATORS, check_launch
from balanced_agg.rewards import sandbox
from tests.composed import compose_recipe, write_rows


@pytest.fixture
def compose(tmp_path, monkeypatch):
    """The arithmetic recipe with data and model of its own, on the CPU platform."""
    monkeypatch.setenv("VERL_PLATFORM", "cpu")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(launch_checks, "RAY_STARTED", tmp_path / "ray_current_cluster")
    build_tokenizer().save_pretrained(tmp_path / "model")
    for split in ("train", "validation"):
        write_rows(tmp_path / f"{split}.parquet")

    def composed(*overrides: str):
        return compose_recipe("arithmetic", f"arithmetic.dir={tmp_path}", *overrides)

    return composed


REFUSED = {
    "an unknown mode": (["actor_rollout_ref.actor.loss_agg_mode=ballanced"], "actor_rollout_ref.actor.loss_agg_mode"),
    "groups of one": (["actor_rollout_ref.rollout.n=1"], "actor_rollout_ref.rollout.n"),
    "an estimator without groups": (["algorithm.adv_estimator=gae"], "algorithm.adv_estimator"),
    "a loss with its own aggregation": (
        ["actor_rollout_ref.actor.policy_loss.loss_mode=geo_mean"],
        "actor_rollout_ref.actor.policy_loss.loss_mode",
    ),
    "a loss that hard-codes its mode": (
        ["actor_rollout_ref.actor.policy_loss.loss_mode=sapo"],
        "actor_rollout_ref.actor.policy_loss.loss_mode",
    ),
    "rejection inside the actor": (
        ["algorithm.rollout_correction.bypass_mode=true", "algorithm.rollout_correction.rollout_rs=token_k1"],
        "algorithm.rollout_correction.rollout_rs",
    ),
    "distillation": (["distillation.enabled=true"], "distillation.enabled"),
    "the V0 trainer": (["trainer.use_v1=false"], "trainer.use_v1"),
    "a missing training file": (["data.train_files=/nowhere/train.parquet"], "data.train_files"),
    "a missing file in a list": (["data.val_files=[/nowhere/a.parquet]"], "data.val_files"),
    "a missing model": (["actor_rollout_ref.model.path=/nowhere/model"], "actor_rollout_ref.model.path"),
    "sequences that fit no micro-batch": (
        ["data.max_response_length=5000"],
        "actor_rollout_ref.actor.ppo_max_token_len_per_gpu",
    ),
    "too few CPUs": (["ray_kwargs.ray_init.num_cpus=2"], "ray_kwargs.ray_init.num_cpus"),
    "a GPU's device on the CPU platform": (["trainer.device=cuda"], "trainer.device"),
}


def test_all_prepared_files_that_are_missing_are_named_with_the_command_that_writes_them(compose, tmp_path):
    files = f"[{tmp_path}/elsewhere/math_500.parquet,{tmp_path}/elsewhere/minerva.parquet]"
    with pytest.raises(ValueError, match="balanced-agg prepare math_500 minerva"):
        check_launch(compose(f"run.data_dir={tmp_path}/elsewhere", f"data.val_files={files}"))


def test_a_data_source_without_a_grader_is_refused(compose, tmp_path):
    pq.write_table(pa.table({"data_source": ["astrology"]}), tmp_path / "odd.parquet")
    with pytest.raises(ValueError, match="data.val_files.*'astrology'.*arithmetic"):
        check_launch(compose(f"data.val_files={tmp_path}/odd.parquet"))


def test_programs_without_a_sandbox_are_refused_unless_the_user_says_how(compose, tmp_path, monkeypatch):
    pq.write_table(pa.table({"data_source": ["livecodebench"]}), tmp_path / "code.parquet")
    monkeypatch.setattr(sandbox, "_sandbox_problem", lambda: "bubblewrap is not installed")
    files = f"data.val_files={tmp_path}/code.parquet"
    with pytest.raises(ValueError, match="data.val_files.*bubblewrap"):
        check_launch(compose(files))
    check_launch(compose(files, "reward.custom_reward_function.reward_kwargs.allow_unsandboxed_code=true"))
    check_launch(compose(files, "reward.sandbox_fusion.url=http://sandbox/run_code"))


def test_a_file_that_is_no_parquet_is_refused(compose, tmp_path):
    (tmp_path / "torn.parquet").write_text("PAR1")
    with pytest.raises(ValueError, match="data.train_files.*torn.parquet"):
        check_launch(compose(f"data.train_files={tmp_path}/torn.parquet"))


def test_validation_files_must_agree_on_who_sets_the_number_of_responses(compose, tmp_path):
    pq.write_table(pa.table({"data_source": ["arithmetic"], "__rollout_n__": [4]}), tmp_path / "counted.parquet")
    with pytest.raises(ValueError, match="__rollout_n__"):
        check_launch(compose(f"data.val_files=[{tmp_path}/counted.parquet,{tmp_path}/validation.parquet]"))


@pytest.mark.parametrize(("overrides", "key"), REFUSED.values(), ids=REFUSED.keys())
def test_refused_with_the_key_to_change(compose, overrides, key):
    with pytest.raises(ValueError, match=re.escape(key)):
        check_launch(compose(*overrides))


def test_the_recipe_itself_passes(compose):
    check_launch(compose())


@pytest.mark.parametrize("estimator", sorted(UNGROUPED_ESTIMATORS))
def test_every_estimator_without_groups_is_refused(compose, estimator):
    assert estimator in ADV_ESTIMATOR_REGISTRY
    with pytest.raises(ValueError, match=r"algorithm\.adv_estimator"):
        check_launch(compose(f"algorithm.adv_estimator={estimator}"))


@pytest.mark.parametrize("estimator", sorted(set(ADV_ESTIMATOR_REGISTRY) - set(UNGROUPED_ESTIMATORS)))
def test_every_group_estimator_passes(compose, estimator):
    check_launch(compose(f"algorithm.adv_estimator={estimator}"))


@pytest.mark.parametrize("mode", ["token-mean", "seq-mean-token-mean"])
def test_verl_own_modes_keep_verl_own_rules(compose, mode):
    check_launch(compose(f"actor_rollout_ref.actor.loss_agg_mode={mode}", "actor_rollout_ref.rollout.n=1"))


def test_a_model_without_a_chat_template_is_refused(compose, tmp_path):
    (tmp_path / "model" / "chat_template.jinja").unlink()
    with pytest.raises(ValueError, match=r"actor_rollout_ref\.model\.custom_chat_template"):
        check_launch(compose())
    check_launch(compose("actor_rollout_ref.model.custom_chat_template=template"))


def test_remote_data_and_hub_models_are_left_to_verl(compose, tmp_path):
    shutil.rmtree(tmp_path / "model")
    check_launch(compose("data.train_files=hdfs://cluster/x.parquet", "actor_rollout_ref.model.path=Qwen/Qwen3-1.7B"))


def test_ranks_need_cpus_each(compose):
    fits_one_rank = "ray_kwargs.ray_init.num_cpus=6"
    check_launch(compose(fits_one_rank))
    with pytest.raises(ValueError, match="num_cpus=9"):
        check_launch(compose(fits_one_rank, "trainer.n_gpus_per_node=2"))


def test_an_existing_ray_cluster_is_not_second_guessed(compose, monkeypatch):
    too_few = "ray_kwargs.ray_init.num_cpus=1"
    check_launch(compose(too_few, "trainer.nnodes=2"))
    launch_checks.RAY_STARTED.touch()
    check_launch(compose(too_few))
    launch_checks.RAY_STARTED.unlink()
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    check_launch(compose(too_few))


def test_verl_validation_calls_the_checks_and_leaves_no_interpolation_for_ray(compose):
    with pytest.raises(ValueError, match=r"rollout\.n"):
        validate_config(compose("actor_rollout_ref.rollout.n=1"), use_reference_policy=False, use_critic=False)
    config = compose()
    validate_config(config, use_reference_policy=False, use_critic=False)
    assert config.ray_kwargs.ray_init.runtime_env.env_vars._get_node("WANDB_RUN_GROUP")._value() == (
        "arithmetic-balanced"
    )
