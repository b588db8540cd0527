"""A verl run that asked for nothing of ours is launched, or refused, as without the package."""

import inspect
import json
from collections.abc import Callable

import pytest

from tests.composed import write_rows

# verl accepts both, and our launch checks neither: a file named twice, and a mini-batch that does not divide the batch.
OURS_WOULD_REFUSE = {
    "twice": ["data.train_files=[{file},{file}]"],
    "uneven": ["data.train_batch_size=10", "actor_rollout_ref.actor.ppo_mini_batch_size=4"],
}
SCRIPT = inspect.cleandoc("""
    import json, sys
    from hydra import compose, initialize_config_module
    from verl.utils.config import validate_config

    said = {}
    for name, overrides in json.loads(sys.argv[1]).items():
        with initialize_config_module("verl.trainer.config", version_base=None):
            config = compose("ppo_trainer", overrides)
        try:
            validate_config(config=config, use_reference_policy=False, use_critic=False)
            said[name] = None
        except Exception as error:
            said[name] = f"{type(error).__name__}: {error}"
    from verl.trainer.ppo.v1.trainer_base import PPOTrainer
    methods = vars(PPOTrainer).items()
    wrapped = sorted(name for name, method in methods if type(method).__name__ == "FunctionWrapper")
    print(json.dumps({"said": said, "wrapped": wrapped}))
""")


@pytest.fixture(scope="module")
def launch(fresh_process, tmp_path_factory) -> Callable[..., dict]:
    """What is said of OURS_WOULD_REFUSE, and what of verl's trainer is wrapped, under these variables."""
    file = tmp_path_factory.mktemp("data") / "rows.parquet"
    write_rows(file)
    common = [
        f"data.train_files={file}",
        f"data.val_files={file}",
        "algorithm.adv_estimator=grpo",
        "actor_rollout_ref.actor.use_dynamic_bsz=true",
        "trainer.n_gpus_per_node=1",
        "actor_rollout_ref.rollout.n=4",
        "actor_rollout_ref.rollout.tensor_model_parallel_size=1",
    ]
    overrides = {
        name: common + [override.format(file=file) for override in more] for name, more in OURS_WOULD_REFUSE.items()
    }

    def launch(**variables: str) -> dict:
        done = fresh_process(SCRIPT, json.dumps(overrides), **variables)
        assert done.returncode == 0, done.stderr[-2000:]
        return json.loads(done.stdout.splitlines()[-1])

    return launch


@pytest.mark.slow
def test_without_a_switch_nothing_is_refused_and_the_loss_alone_is_active(launch):
    without = launch(VERL_USE_EXTERNAL_PLUGINS="none")
    installed = launch()
    assert installed["said"] == without["said"] == {"twice": None, "uneven": None}
    assert without["wrapped"] == []
    assert installed["wrapped"] == [
        *("_balance_batch", "_compute_advantage", "_compute_metrics", "_compute_old_log_prob"),
    ]


@pytest.mark.slow
def test_each_part_has_its_variable(launch):
    said = launch(BALANCED_AGG_CHECKS="1")["said"]
    assert "data.train_files" in said["twice"]
    assert "ppo_mini_batch_size" in said["uneven"]
    guarded = launch(BALANCED_AGG_GUARD="1")
    assert guarded["said"] == {"twice": None, "uneven": None}
    assert {"_save_checkpoint", "_load_checkpoint", "fit", "step"} < set(guarded["wrapped"])


@pytest.mark.slow
def test_a_part_that_is_switched_on_and_not_found_is_refused(fresh_process, tmp_path):
    """An old build's metadata, nearer on the path than the installed package's, hides entry points from verl."""
    old = tmp_path / "balanced_agg.egg-info"
    old.mkdir()
    (old / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: balanced-agg\nVersion: 0.1.0\n")
    (old / "entry_points.txt").write_text("[verl.plugins]\nbalanced_agg = balanced_agg.plugin.loss.in_verl\n")
    launch = inspect.cleandoc("""
        import sys
        sys.path.insert(0, sys.argv[1])
        from verl.utils.config import validate_config
        for switch in ("BALANCED_AGG_CHECKS", "BALANCED_AGG_GUARD"):
            try:
                validate_config(config={})
            except ValueError as error:
                print(error)
            os.environ[switch] = "0"
    """)
    done = fresh_process(launch, str(tmp_path), cwd=tmp_path, BALANCED_AGG_CHECKS="1", BALANCED_AGG_GUARD="1")
    checks, guard = done.stdout.splitlines()[-2:]
    assert checks.startswith("BALANCED_AGG_CHECKS is on") and guard.startswith("BALANCED_AGG_GUARD is on")
    assert "delete an old balanced_agg.egg-info" in checks
