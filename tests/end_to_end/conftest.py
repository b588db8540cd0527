"""What several tests share: the embedded tasks, about a minute each if not yet prepared, and one run of one.

Two workers of pytest-xdist share the machine, each with half of its cores: a run on half of them takes less than twice
the time, since it waits for itself. Tests of one file are in one worker.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from balanced_agg.data.embedded import write_split
from filelock import FileLock

from balanced_agg.arithmetic.tasks import SEARCH
from balanced_agg.arithmetic.warm_start import WarmStartSettings, warm_start
from tests.end_to_end.launch import ROOT, SMALL, replay, train


def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):  # this hook sees every test
            item.add_marker(pytest.mark.training)


@pytest.fixture(scope="session")
def arithmetic_model():
    """Directory of the warm-started model that recipes/arithmetic.yaml trains."""
    (ROOT / "artifacts").mkdir(exist_ok=True)
    with FileLock(ROOT / "artifacts/tests.lock"):  # the other worker needs it, too
        subprocess.run([sys.executable, "-m", "balanced_agg", "prepare", "arithmetic"], cwd=ROOT, check=True)
    return ROOT / "artifacts/arithmetic/length_gap/model"


@pytest.fixture(scope="session", autouse=True)
def own_cores(arithmetic_model):  # which is trained before, on all cores
    """The cores of this worker, for its runs and its references."""
    worker, workers = os.environ.get("PYTEST_XDIST_WORKER", "gw0"), os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cores[int(worker.removeprefix("gw")) :: int(workers)] or cores)
    torch.set_num_threads(len(os.sched_getaffinity(0)))


@pytest.fixture(scope="session")
def search_task():
    """Folder of the task `search` for its recipe, with 16 problems, which a model learns by heart within half a minute.

    It is right half of the time, so that groups are mixed; `balanced-agg prepare search` takes minutes.
    """
    folder = ROOT / "artifacts/search/few"
    train, validation = SEARCH.train_validation_split(0, train_count=16, validation_count=16)
    write_split(SEARCH, train, "train", folder / "train.parquet")
    write_split(SEARCH, validation, "validation", folder / "validation.parquet")
    # One thread: two of them, which have counted more cores than this worker has left, take minutes waiting in turn.
    settings = WarmStartSettings(steps=100, threads=1)
    warm_start(SEARCH, "length_gap", folder / "model", train, settings=settings)
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
