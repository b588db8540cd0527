"""What several tests share: the embedded task, about a minute where it has not been prepared, and one run of it."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.end_to_end.launch import ROOT, SMALL, replay, train


def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):  # this hook sees every test
            item.add_marker(pytest.mark.alone)


@pytest.fixture(scope="session")
def arithmetic_model():
    """Directory of the warm-started model that recipes/arithmetic.yaml trains."""
    subprocess.run([sys.executable, "-m", "balanced_agg", "prepare", "arithmetic"], cwd=ROOT, check=True)
    return ROOT / "artifacts/arithmetic/length_gap/model"


@pytest.fixture(scope="session")
def first_run(tmp_path_factory, arithmetic_model):
    """Three balanced steps on two ranks by the recipe as it is, and the folder of the first step's recorded rollouts.

    It leaves a checkpoint of its last step.
    """
    folder = tmp_path_factory.mktemp("first_run")
    run = train(
        "arithmetic",
        folder / "run",
        *SMALL,
        "trainer.n_gpus_per_node=2",
        "trainer.total_training_steps=3",
        f"trainer.rollout_data_dir={folder}/rollouts",
        *replay(folder / "recorded", 1),
        environment={"VERL_USE_EXTERNAL_MODULES": "tests.end_to_end.witness", "WITNESS_DIR": str(folder)},
    )
    assert run.returncode == 0, run.log[-5000:]
    return run, folder / "recorded"
