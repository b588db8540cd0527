"""Settings of all tests: the plugin's parts are on as in our runs, which join no cluster of this machine; Hypothesis
tries the same examples on every run."""

import os

import pytest
from hypothesis import HealthCheck, settings

# Before verl is imported, which reads them then.
os.environ |= {"BALANCED_AGG_CHECKS": "1", "BALANCED_AGG_GUARD": "1"}

# A Ray that runs on this machine, or has left its address in /tmp/ray, is somebody else's.
os.environ["RAY_ADDRESS"] = "local"

# No time limits, since machines stall.
settings.register_profile(
    "balanced_agg",
    max_examples=50,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("balanced_agg")


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("no CUDA device")
