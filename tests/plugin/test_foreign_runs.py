"""A verl run that asked for nothing of ours is launched, or refused, as without the package."""

import inspect
import json
import os
import subprocess
import sys

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


def launch(file, **environment):
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
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("BALANCED_AGG_", "VERL_"))}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCRIPT, json.dumps(overrides)],
        capture_output=True,
        text=True,
        env=kept | environment,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "rows.parquet"
    write_rows(path)
    return path


def test_without_a_switch_nothing_is_refused_and_the_loss_alone_is_active(file):
    without = launch(file, VERL_USE_EXTERNAL_PLUGINS="none")
    installed = launch(file)
    assert installed["said"] == without["said"] == {"twice": None, "uneven": None}
    assert without["wrapped"] == []
    assert installed["wrapped"] == ["_compute_advantage", "_compute_metrics", "_compute_old_log_prob"]


@pytest.mark.slow  # two more processes that import verl
def test_each_part_has_its_variable(file):
    said = launch(file, BALANCED_AGG_CHECKS="1")["said"]
    assert "data.train_files" in said["twice"]
    assert "ppo_mini_batch_size" in said["uneven"]
    guarded = launch(file, BALANCED_AGG_GUARD="1")
    assert guarded["said"] == {"twice": None, "uneven": None}
    assert {"_save_checkpoint", "_load_checkpoint", "fit", "step"} < set(guarded["wrapped"])


def test_a_part_that_is_switched_on_and_not_found_is_refused(tmp_path):
    """An old build's metadata, nearer on the path than the installed package's, hides entry points from verl."""
    old = tmp_path / "balanced_agg.egg-info"
    old.mkdir()
    (old / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: balanced-agg\nVersion: 0.1.0\n")
    (old / "entry_points.txt").write_text("[verl.plugins]\nbalanced_agg = balanced_agg.plugin.loss.in_verl\n")
    launch = inspect.cleandoc("""
        import os
        from verl.utils.config import validate_config
        for switch in ("BALANCED_AGG_CHECKS", "BALANCED_AGG_GUARD"):
            try:
                validate_config(config={})
            except ValueError as error:
                print(error)
            os.environ[switch] = "0"
    """)
    done = subprocess.run(
        [sys.executable, "-c", launch],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},  # tests/conftest.py has both switches on
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    checks, guard = done.stdout.splitlines()[-2:]
    assert checks.startswith("BALANCED_AGG_CHECKS is on") and guard.startswith("BALANCED_AGG_GUARD is on")
    assert "delete an old balanced_agg.egg-info" in checks
