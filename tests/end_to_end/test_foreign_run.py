"""A run under one of verl's own modes, with the loss part installed and nothing else asked for, is as without it.

The CPU platform is there in both, since neither would run here without it.
"""

import pytest

from tests.end_to_end.launch import replay, train

pytestmark = pytest.mark.slow

NOTHING_ASKED = {
    "BALANCED_AGG_CHECKS": "0",
    "BALANCED_AGG_GUARD": "0",
    # What configs/hardware/cpu.yaml hands to Ray.
    "OMP_NUM_THREADS": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "HF_HUB_OFFLINE": "1",
}


def test_verls_own_mode_has_the_same_checkpoints_log_and_refusals_with_and_without_the_loss(tmp_path, arithmetic_model):
    file = arithmetic_model.parent / "train.parquet"
    # Our launch checks would refuse a file named twice. (A mini-batch that does not divide the batch, which they refuse
    # too, is in tests/plugin/test_foreign_runs.py: which rows are in it is another matter in every run.)
    overrides = [
        f"data.train_files=[{file},{file}]",
        "data.train_batch_size=8",
        "aggregation=batch_token",
        "trainer.total_training_steps=1",
        "trainer.val_before_train=false",
        "trainer.test_freq=-1",
        "trainer.save_freq=1",
        "trainer.logger=[console,file]",
        "trainer.project_name=test",
        "trainer.experiment_name=test",
        *replay(tmp_path / "recorded", 1),  # both train on the same rollouts
        # Its interpolations would reach Ray as text, without the loss part that resolves them.
        "~ray_kwargs.ray_init.runtime_env.env_vars",
    ]

    def run(name, **exported):
        log = {"VERL_FILE_LOGGER_PATH": str(tmp_path / name / "metrics.jsonl")}
        return train("arithmetic", tmp_path / name, *overrides, environment=NOTHING_ASKED | log | exported)

    without, installed = run("without", VERL_USE_EXTERNAL_PLUGINS="balanced_agg_cpu"), run("with")
    assert without.returncode == installed.returncode == 0, installed.log[-3000:] + without.log[-3000:]
    assert files(without.dir / "checkpoints") == files(installed.dir / "checkpoints")
    assert "is active" not in installed.log
    (before,), (after,) = without.steps.values(), installed.steps.values()
    added = set(after) - set(before)
    assert added and all(name.startswith("aggregation/") for name in added - {"timing_s/aggregation_metrics"})
    for name in ("critic/rewards/mean", "response_length/mean", "actor/grad_norm", "actor/pg_loss"):
        assert after[name] == pytest.approx(before[name], rel=1e-4), name


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
