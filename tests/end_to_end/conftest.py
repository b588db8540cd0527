"""What several tests share: the embedded tasks, about a minute each if not yet prepared, and one run of one."""

import subprocess
import sys
from pathlib import Path

import pytest
from balanced_agg.data.embedded import write_split

from balanced_agg.arithmetic.tasks import SEARCH
from balanced_agg.arithmetic.warm_start import WarmStartSettings, warm_start
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
def search_task():
    """Folder of the task `search` for its recipe, with 16 problems, which a model learns by heart within half a minute.

    It is right half of the time, so that groups are mixed; `balanced-agg prepare search` takes minutes.
    """
    folder = ROOT / "artifacts/search/few"
    train, validation = SEARCH.train_validation_split(0, train_count=16, validation_count=16)
    write_split(SEARCH, train, "train", folder / "train.parquet")
    write_split(SEARCH, validation, "validation", folder / "validation.parquet")
    warm_start(SEARCH, "length_gap", folder / "model", train, settings=WarmStartSettings(steps=100))
    return folder


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
