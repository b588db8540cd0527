"""The embedded task, prepared once: about a minute where it has not been."""

import subprocess
import sys

import pytest

from tests.end_to_end.launch import ROOT


@pytest.fixture(scope="session")
def arithmetic_model():
    """Directory of the warm-started model that recipes/arithmetic.yaml trains."""
    subprocess.run([sys.executable, "-m", "balanced_agg", "prepare", "arithmetic"], cwd=ROOT, check=True)
    return ROOT / "artifacts/arithmetic/length_gap/model"
