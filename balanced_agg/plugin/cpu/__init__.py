"""Platforms that verl does not ship."""

import os


def cpu_is_chosen() -> bool:
    """Whether this process is to run verl, and vLLM, without an accelerator."""
    return os.environ.get("VERL_PLATFORM", "").strip().lower() == "cpu"
