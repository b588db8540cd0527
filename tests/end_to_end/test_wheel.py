"""The built wheel in an environment of its own: a verl run that is not ours, and our commands without a checkout."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from dataclasses import dataclass
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from balanced_agg import __version__
from tests.end_to_end.launch import ROOT, SWITCHES, watch

pytestmark = pytest.mark.slow

USE_THE_MODE = """
import sys, verl
from verl.workers.config import FSDPActorConfig, FSDPEngineConfig, OptimizerConfig
config = FSDPActorConfig(strategy="fsdp2", rollout_n=4, ppo_micro_batch_size_per_gpu=1, loss_agg_mode="balanced",
                         optim=OptimizerConfig(lr=1.0), fsdp_config=FSDPEngineConfig())
print(config.loss_agg_mode, sys.modules["balanced_agg"].__file__)
"""
# What docker/ copies before it installs the package.
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "balanced_agg", "configs", "data", "recipes")
# What says where the checkout is, or what would be another's choice.
UNSET = (*SWITCHES, "PYTHONPATH", "PWD", "VERL_PLATFORM", "VERL_PYTHON", "BALANCED_AGG_ROOT", "WANDB_MODE")


@dataclass
class Environment:
    """Attributes:
    bin: folder of its programs.
    without: what came of USE_THE_MODE before the wheel was installed.
    """

    bin: Path
    without: subprocess.CompletedProcess


@pytest.fixture(scope="module")
def environment(tmp_path_factory) -> Environment:
    """This environment's packages as plain files, which no editable install reaches through, and the wheel."""
    folder = tmp_path_factory.mktemp("wheel")

    def pip(*arguments: str) -> None:
        subprocess.run([sys.executable, "-m", "pip", "--quiet", *arguments], check=True, cwd=folder)

    # A copy, since setuptools builds in the folder, and packs what an earlier build left there.
    for name in SOURCES:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        (folder / "sources").mkdir(exist_ok=True)
        copy(ROOT / name, folder / "sources" / name)
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(folder / "sources"))
    (wheel,) = folder.glob("balanced_agg-*.whl")
    venv.create(folder / "venv", with_pip=False)
    (site,) = (folder / "venv").glob("lib/python*/site-packages")
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib"))
    python = folder / "venv/bin/python"
    without = use_the_mode(python, folder)
    pip(f"--python={python}", "install", "--no-deps", "--ignore-installed", str(wheel))
    return Environment(python.parent, without)


def use_the_mode(python: Path, folder: Path) -> subprocess.CompletedProcess:
    variables = {name: value for name, value in os.environ.items() if name not in UNSET}
    return subprocess.run([python, "-c", USE_THE_MODE], capture_output=True, text=True, cwd=folder, env=variables)


def test_verls_plugin_is_the_only_contact_with_a_verl_that_knows_nothing_of_it(environment, tmp_path):
    assert "Invalid loss_agg_mode: balanced" in environment.without.stderr
    done = use_the_mode(environment.bin / "python", tmp_path)
    (package,) = environment.bin.parent.glob("lib/python*/site-packages/balanced_agg/__init__.py")
    assert done.stdout.split() == ["balanced", str(package)], done.stderr


def test_a_recipe_is_prepared_examined_and_trained_without_a_checkout(environment, arithmetic_model, tmp_path):
    folder = tmp_path / "anywhere"
    task = folder / "artifacts/arithmetic/length_gap"
    shutil.copytree(arithmetic_model, task / "model")  # its warm start takes a minute
    variables = {name: value for name, value in os.environ.items() if name not in UNSET}

    def run(*arguments: str):
        done = watch(tmp_path / arguments[0], [str(environment.bin / "balanced-agg"), *arguments], folder, variables)
        assert done.returncode == 0 and done.leftover == [], done.log[-5000:]
        return done.log

    assert run("prepare", "arithmetic").count("up to date") == 1
    assert (task / "train.parquet").is_file() and (task / "validation.parquet").is_file()

    log = run("doctor", "arithmetic", "--json")
    checks = {check["check"]: check["status"] for check in json.loads(log)}
    assert checks["verl plugin"] == checks["recipe"] == "ok", log

    settings = ["trainer.total_training_steps=1", "trainer.test_freq=-1", "trainer.val_before_train=false"]
    run("train", "arithmetic", "data.train_batch_size=4", "actor_rollout_ref.actor.ppo_mini_batch_size=4", *settings)
    run_dir = folder / "outputs/arithmetic-balanced-seed1"
    (record,) = map(json.loads, (run_dir / "metrics.jsonl").read_text().splitlines())
    assert record["data"]["actor/grad_norm"] > 0 and "aggregation/balanced/positive_share" in record["data"]
    assert OmegaConf.load(run_dir / ".hydra/config.yaml").run.commit == __version__
    assert {path.name for path in folder.iterdir()} <= {"artifacts", "outputs"}, "a run writes nowhere else"
