"""What cannot work is refused before Ray starts, by a message that names the key to change.

Each mistake of tests/tools/misuse.py is refused, and beside each refusal stands what is like it and works.
"""

import os
import re
import shlex
import shutil
import socket
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ray._common.utils import get_ray_address_file
from verl.experimental.reward_loop.reward_manager.registry import REWARD_MANAGER
from verl.trainer.ppo.core_algos import ADV_ESTIMATOR_REGISTRY
from verl.trainer.ppo.v1.trainer_base import TRAINER_REGISTRY
from verl.utils.config import validate_config
from verl.utils.tracking import Tracking
from verl.workers.rollout.replica import RolloutReplicaRegistry

from balanced_agg.commands.doctor.recipe import refusals
from balanced_agg.commands.overrides import override
from balanced_agg.plugin.checks import check_launch
from balanced_agg.plugin.checks.cluster import check_cluster, check_interpreter, ray_address_file, starts_ray
from balanced_agg.plugin.checks.outputs import LOGGERS
from balanced_agg.plugin.checks.values import USUAL_NAMES
from balanced_agg.plugin.loss.refusals import UNGROUPED_ESTIMATORS
from balanced_agg.rewards import sandbox
from tests.composed import compose_recipe, write_rows
from tests.tools.misuse import ACTOR, ASYNC, CASES, EXECUTOR, FIXED, ROLLOUT, checkpoint, good_inputs, prepare, written

# What Hydra, or verl at its import, refuses in words of its own, and what the guard refuses.
NOT_OURS = (
    "a run folder in use",
    "an unknown aggregation file",
    "a key that does not exist",
    "an unknown hardware file",
    "a model size without a row",
    "micro-batches of no size",
    "an unknown platform",
    "the CPU's recipe on the GPU platform",
)
OURS = [case for case in CASES if case.command[:2] == ("scripts/train.sh", "arithmetic") and case.name not in NOT_OURS]
FUNCTION = "reward.custom_reward_function"


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    folder = tmp_path_factory.mktemp("good")
    good_inputs(folder)
    return folder


@pytest.fixture(autouse=True)
def on_cpu_without_a_cluster(monkeypatch, tmp_path):
    monkeypatch.setenv("VERL_PLATFORM", "cpu")
    # The guard imports verl's trainer at a launch, which needs the platform from the start.
    monkeypatch.setattr("balanced_agg.plugin.guard.in_verl.misfits", lambda wrappers: [])
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))


@pytest.fixture
def compose(good, tmp_path):
    """The arithmetic recipe with data and model of its own, which a test may spoil."""
    shutil.copytree(good, tmp_path, dirs_exist_ok=True)

    def composed(*overrides: str):
        own = (f"arithmetic.dir={tmp_path}", f"run.dir={tmp_path}/run")
        return compose_recipe("arithmetic", *own, *overrides)

    return composed


@pytest.mark.parametrize("case", OURS, ids=lambda case: case.name)
def test_a_mistake_is_refused_with_the_key_to_change(case, good, tmp_path, monkeypatch):
    case = prepare(case, good, tmp_path)
    for name, value in case.environment.items():
        monkeypatch.setenv(name, value) if value is not None else monkeypatch.delenv(name, raising=False)
    config = compose_recipe("arithmetic", *case.command[2:])
    with pytest.raises(ValueError, match=re.escape(case.says)) as launch:
        validate_config(config, use_reference_policy=False, use_critic=False)
    assert type(launch.value) is ValueError
    (said,) = refusals(config)  # by the doctor: once, in the same words
    assert str(launch.value) == f"{said.detail}; {said.remedy}"


WORKS = {
    "a learning rate of 0, to measure gradients": [f"{ACTOR}.optim.lr=0"],
    "a run without a last step": ["trainer.total_training_steps=null"],
    "several mini-batches a step": [f"{ACTOR}.ppo_mini_batch_size=2"],
    "fixed micro-batches that divide": [*FIXED, f"{ACTOR}.ppo_micro_batch_size_per_gpu=4"],
    "a fixed size that dynamic micro-batches ignore": [f"{ACTOR}.ppo_micro_batch_size_per_gpu=5"],
    "two ranks": ["trainer.n_gpus_per_node=2"],
    "a replica of two ranks": [
        "trainer.n_gpus_per_node=2",
        f"{ROLLOUT}.tensor_model_parallel_size=2",
        f"{EXECUTOR}=mp",
    ],
    "a window that holds a sequence": [f"{ROLLOUT}.max_model_len=96"],
    "a KL penalty in the reward": ["algorithm.use_kl_in_reward=true"],
    "advantages without a standard deviation": ["algorithm.norm_adv_by_std_in_grpo=false"],
    "Dr. GRPO": ["aggregation=dr_grpo"],
    "verl's own reward functions": [f"{FUNCTION}.path=null"],
    "groups chosen by their reward": ["+algorithm.filter_groups={enable:true,metric:acc}"],
    "overlong prompts, of which there are few": ["data.filter_overlong_prompts=true", "data.max_prompt_length=7"],
    "validation alone, on fewer prompts than a batch": ["trainer.val_only=true", "data.train_batch_size=8192"],
    "no checkpoints, in a folder that cannot be": ["trainer.save_freq=-1", "trainer.default_local_dir=/dev/null/x"],
    "rollouts on ranks of their own": [
        *ASYNC,
        "trainer.v1.separate_async.parameter_sync_step=2",
        f"{ACTOR}.ppo_mini_batch_size=4",
    ],
    "an evaluation": ["+evaluation=validation_only"],
    "one logger, and no checkpoint to resume from": ["trainer.resume_mode=disable", "trainer.logger=console"],
}


@pytest.mark.parametrize("overrides", WORKS.values(), ids=WORKS.keys())
def test_what_works_passes(compose, overrides):
    check_launch(compose(*overrides))


def test_all_prepared_files_that_are_missing_are_named_with_the_command_that_writes_them(compose, tmp_path):
    files = f"[{tmp_path}/elsewhere/math_500.parquet,{tmp_path}/elsewhere/minerva.parquet]"
    with pytest.raises(ValueError, match="balanced-agg prepare math_500 minerva"):
        check_launch(compose(f"run.data_dir={tmp_path}/elsewhere", f"data.val_files={files}"))


def test_programs_without_a_sandbox_are_refused_unless_the_user_says_how(compose, tmp_path, monkeypatch):
    tests = {"style": "rule", "ground_truth": '{"inputs": ["1"], "outputs": ["1"]}'}
    write_rows(tmp_path / "code.parquet", data_source="livecodebench", reward_model=tests)
    monkeypatch.setattr(sandbox, "_sandbox_problem", lambda: "bubblewrap is not installed")
    files = f"data.val_files={tmp_path}/code.parquet"
    with pytest.raises(ValueError, match=r"data.val_files.*bubblewrap"):
        check_launch(compose(files))
    check_launch(compose(files, "reward.custom_reward_function.reward_kwargs.allow_unsandboxed_code=true"))
    check_launch(compose(files, "reward.sandbox_fusion.url=http://sandbox/run_code"))


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


RULES = """
def fine(responses):
    return responses.lengths

def by_longest(responses):  # 0 where a group has equal lengths
    return responses.mean_in(responses.groups) - responses.lengths.min()

def wrong_name(responses):
    return responses.length
"""


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("by_longest", r"batch with .*finite positive number"),
        ("wrong_name", "AttributeError.*length"),
        ("absent", "no attribute 'absent'"),
    ],
)
def test_a_rule_of_the_users_that_cannot_work_is_refused(compose, tmp_path, name, message):
    file = tmp_path / "rules.py"
    file.write_text(RULES)
    check_launch(compose(f"{ACTOR}.loss_agg_mode={file}:fine"))
    with pytest.raises(ValueError, match=rf"^{re.escape(ACTOR)}\.loss_agg_mode=.*{message}.*docs/rules\.md"):
        check_launch(compose(f"{ACTOR}.loss_agg_mode={file}:{name}"))


def test_rules_that_look_at_no_group_need_none(compose):
    for mode in ("sqrt-length", "delta-l:0.5", "token-mean@equal-mass"):
        check_launch(
            compose(f"{ACTOR}.loss_agg_mode={mode}", f"{ROLLOUT}.n=1", "algorithm.adv_estimator=reinforce_plus_plus")
        )
    for mode in ("prompt-mean", "sign-weights", "balanced@equal-mass"):
        with pytest.raises(ValueError, match=r"rollout\.n"):
            check_launch(compose(f"{ACTOR}.loss_agg_mode={mode}", f"{ROLLOUT}.n=1"))


@pytest.mark.parametrize("mode", ["balanced", "token-mean"])
def test_groups_cannot_be_kept_whole_where_ranks_shuffle(compose, mode):
    whole = ("balanced_agg.whole_groups=true", f"{ACTOR}.loss_agg_mode={mode}")
    check_launch(compose(*whole))
    with pytest.raises(ValueError, match=r"actor\.shuffle.*set it to False"):
        check_launch(compose(*whole, f"{ACTOR}.shuffle=true"))


def test_ranks_need_cpus_each(compose):
    fits_one_rank = "ray_kwargs.ray_init.num_cpus=6"
    check_launch(compose(fits_one_rank))
    with pytest.raises(ValueError, match="num_cpus=9"):
        check_launch(compose(fits_one_rank, "trainer.n_gpus_per_node=2"))


def test_verl_validation_calls_the_checks_and_leaves_no_interpolation_for_ray(compose):
    with pytest.raises(ValueError, match=r"rollout\.n"):
        validate_config(compose("actor_rollout_ref.rollout.n=1"), use_reference_policy=False, use_critic=False)
    config = compose()
    validate_config(config, use_reference_policy=False, use_critic=False)
    assert config.ray_kwargs.ray_init.runtime_env.env_vars._get_node("WANDB_RUN_GROUP")._value() == (
        "arithmetic-balanced"
    )


def test_a_template_of_the_users_stands_in_for_the_models_own(compose, tmp_path):
    (tmp_path / "model" / "chat_template.jinja").unlink()
    check_launch(compose("actor_rollout_ref.model.custom_chat_template='{{messages[0].content}}'"))


def test_remote_data_and_hub_models_are_left_to_verl(compose, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    shutil.rmtree(tmp_path / "model")
    check_launch(compose("data.train_files=hdfs://cluster/x.parquet", "actor_rollout_ref.model.path=Qwen/Qwen3-1.7B"))


def test_a_data_set_class_of_the_users_reads_what_it_likes(compose, tmp_path):
    write_rows(tmp_path / "train.parquet", prompt="1+1=", reward_model=None)
    check_launch(compose("data.custom_cls.path=/somewhere/data.py", "data.custom_cls.name=Mine"))


def test_a_prompt_that_the_template_refuses_is_left_out_where_verl_filters(compose, tmp_path):
    rows = [{"role": role, "content": "1+1="} for role in ["robot", *["user"] * 9]]
    table = pa.table({"prompt": [[row] for row in rows], "data_source": ["arithmetic"] * 10})
    answers = [{"style": "rule", "ground_truth": "2"}] * 10
    pq.write_table(table.append_column("reward_model", pa.array(answers)), tmp_path / "train.parquet")
    check_launch(compose("data.filter_overlong_prompts=true", "trainer.total_epochs=40"))


def test_a_reward_function_is_read_and_not_run(compose, tmp_path):
    written("reward.py", "if True:\n    compute_score = make()\nraise SystemExit\n")(tmp_path)
    check_launch(compose(f"{FUNCTION}.path={tmp_path}/reward.py"))
    written("stars.py", "from somewhere import *\n")(tmp_path)
    check_launch(compose(f"{FUNCTION}.path={tmp_path}/stars.py"))


def test_at_a_launch_a_function_of_the_users_is_left_with_the_users_options_alone(compose, tmp_path):
    written("reward.py", "def compute_score(data_source, solution_str, ground_truth, extra_info, bonus): ...\n")(
        tmp_path
    )
    config = compose(f"{FUNCTION}.path={tmp_path}/reward.py", f"+{FUNCTION}.reward_kwargs.bonus=1")
    validate_config(config, use_reference_policy=False, use_critic=False)
    assert config.reward.custom_reward_function.reward_kwargs == {"bonus": 1}


def test_names_that_a_module_of_the_users_may_register_are_left_to_it(compose, tmp_path):
    mine = "algorithm.adv_estimator=mine"
    check_launch(compose(mine, "actor_rollout_ref.model.external_lib=[my_lib,balanced_agg.plugin.token_ids]"))
    with pytest.raises(ValueError, match=r"adv_estimator=mine is unknown"):
        check_launch(compose(mine))  # with ours alone
    written("reward.py", "def compute_score(): ...\n")(tmp_path)
    check_launch(compose("reward.reward_manager.name=mine", f"{FUNCTION}.path={tmp_path}/reward.py"))


def test_the_names_that_pass_unasked_are_verls():
    assert {*USUAL_NAMES["trainer.v1.trainer_mode"]} == {*TRAINER_REGISTRY}
    assert {*USUAL_NAMES["actor_rollout_ref.rollout.name"]} == {*RolloutReplicaRegistry._registry}
    assert {*USUAL_NAMES["reward.reward_manager.name"]} <= {*REWARD_MANAGER}
    assert {*LOGGERS} == {*Tracking.supported_backend, "tracking"}


def test_a_checkpoint_of_this_run_is_resumed_from(compose, good, tmp_path):
    case_folder = tmp_path / "case"
    shutil.copytree(good, case_folder / "inputs")
    checkpoint()(case_folder / "inputs")
    config = compose(f"run.dir={case_folder}/run")
    check_launch(config)
    (case_folder / "run/checkpoints/latest_checkpointed_iteration.txt").unlink()
    (case_folder / "run/checkpoints/global_step_20/actor/model_world_size_1_rank_0.pt").rename(tmp_path / "gone")
    check_launch(config)


@pytest.fixture
def listening():
    """The address of something that answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def test_a_cluster_that_answers_is_not_second_guessed(compose, listening, monkeypatch, tmp_path):
    cluster = ("cluster=existing", "trainer.nnodes=2")
    written("ray/ray_current_cluster", listening)(tmp_path)
    check_launch(compose(*cluster))
    (tmp_path / "ray/ray_current_cluster").unlink()
    monkeypatch.setenv("RAY_ADDRESS", listening)
    check_launch(compose(*cluster))
    monkeypatch.setenv("RAY_ADDRESS", f"ray://{listening}")
    check_launch(compose(*cluster))


def planted_link(file: Path) -> None:
    file.with_name("address").write_text("127.0.0.1:6379")
    file.symlink_to("address")


def of_another_user(file: Path) -> None:
    file.write_text("127.0.0.1:6379")
    os.chown(file, 12345, -1)


PLANTED = {"a link": planted_link, "a FIFO": os.mkfifo, "another user's": of_another_user, "empty": Path.touch}


@pytest.mark.parametrize("hardware", ["cpu", "8gpu"])
@pytest.mark.parametrize("plant", PLANTED.values(), ids=PLANTED.keys())
def test_a_cluster_that_another_user_names_in_a_shared_folder_is_not_joined(compose, tmp_path, hardware, plant):
    file = tmp_path / "ray/ray_current_cluster"
    file.parent.mkdir()
    try:
        plant(file)
    except PermissionError:
        pytest.skip("giving a file away takes root")
    assert starts_ray(compose(f"hardware={hardware}"))
    with pytest.raises(ValueError, match=rf"{file}.* was not written by you; .*RAY_ADDRESS=local"):
        check_cluster(compose(f"hardware={hardware}", "cluster=existing"))


@pytest.mark.parametrize("hardware", ["cpu", "8gpu"])
def test_a_cluster_that_runs_here_is_joined_by_cluster_existing_alone(compose, listening, tmp_path, hardware):
    written("ray/ray_current_cluster", listening)(tmp_path)
    assert starts_ray(compose(f"hardware={hardware}"))
    joins = compose(f"hardware={hardware}", "cluster=existing")
    check_cluster(joins)
    assert not starts_ray(joins)


PY_EXECUTABLE = "ray_kwargs.ray_init.runtime_env.py_executable"


@pytest.mark.parametrize(
    ("named", "why"),
    [
        ("/no/python", "No such file"),
        ("/no place/python", "No such file"),
        ("python -c 1/0", "ZeroDivisionError"),
        ("false", "exit code 1"),
        ("sleep 99 #", "timed out"),
    ],
)
def test_an_interpreter_that_does_not_start_is_refused_with_the_reason(compose, monkeypatch, named, why):
    monkeypatch.setattr("balanced_agg.plugin.checks.cluster.START_SECONDS", 2)
    with pytest.raises(ValueError, match=rf"{PY_EXECUTABLE}.*{why}.*set it to an interpreter that has ray"):
        check_interpreter(compose(override(f"+{PY_EXECUTABLE}", named)))


def test_an_interpreter_is_tried_in_the_runs_own_environment(compose):
    interpreter = override(f"+{PY_EXECUTABLE}", shlex.quote(sys.executable))
    check_interpreter(compose(interpreter))
    with pytest.raises(ValueError, match=PY_EXECUTABLE):
        check_interpreter(compose(interpreter, "+ray_kwargs.ray_init.runtime_env.env_vars.PYTHONHOME=/nowhere"))


def test_the_size_of_a_cluster_that_is_there_cannot_be_set(compose, listening, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", listening)
    with pytest.raises(ValueError, match=r"num_cpus.*cluster=existing"):
        check_launch(compose())


def test_a_ray_of_the_runs_own_can_be_asked_for(compose, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "local")
    check_launch(compose())


@pytest.mark.parametrize(
    "variables", [{}, {"TMPDIR": "/a"}, {"RAY_TMPDIR": "/b"}, {"TMPDIR": "/a", "RAY_TMPDIR": "/b"}]
)
def test_the_address_is_looked_for_where_ray_looks(compose, monkeypatch, variables):
    for name in ("TMPDIR", "RAY_TMPDIR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert os.fspath(ray_address_file(compose())) == get_ray_address_file(None)
    assert os.fspath(ray_address_file(compose("+ray_kwargs.ray_init._temp_dir=/c"))) == get_ray_address_file("/c")
