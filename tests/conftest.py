"""Settings of all tests: the plugin's parts are on as in our runs, which join no cluster of this machine; Hypothesis
tries the same examples on every run, and more of them in the tier of all."""

import os

import pytest
from hypothesis import HealthCheck, settings

# Before verl is imported, which reads them then.
os.environ |= {"BALANCED_AGG_CHECKS": "1", "BALANCED_AGG_GUARD": "1"}

# A Ray that runs on this machine, or has left its address in /tmp/ray, is somebody else's.
os.environ["RAY_ADDRESS"] = "local"

# No time limits, since machines stall.
SAME = settings(deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("fast", SAME, max_examples=20)
settings.register_profile("all", SAME, max_examples=500)  # scripts/test.sh --all asks for it
settings.load_profile("fast")


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("no CUDA device")
