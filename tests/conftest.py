"""Hypothesis settings of all tests: the same examples on every run, no time limits, since machines stall."""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "balanced_agg",
    max_examples=50,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("balanced_agg")
