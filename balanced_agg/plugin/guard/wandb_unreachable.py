"""A wandb server that cannot be reached costs its page, not the run."""

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)


def log_offline_if_unreachable(wrapped: Callable, tracking: Any, args: tuple, kwargs: dict) -> None:
    """verl starts wandb here, before any other logger, and ends where its server cannot be reached: go on offline.

    wandb gives up after WANDB_INIT_TIMEOUT seconds (90 by default) and some more. What it refuses for another reason,
    such as a key that is wrong, stops the run as before. A connection that is lost later is wandb's own affair: it
    keeps what it could not send on disk.
    """
    try:
        wrapped(*args, **kwargs)
    except Exception as error:
        if type(error).__name__ != "CommError" or not str(error).startswith("Timed out"):
            raise
        import wandb

        logger.warning(
            "wandb cannot be reached, so this run is offline; `wandb sync %s` sends it later: %s",
            Path(os.environ.get("WANDB_DIR", "."), "wandb", "offline-run-*"),
            str(error).splitlines()[0],
        )
        wandb.teardown()  # it would not read the mode again
        os.environ["WANDB_MODE"] = "offline"
        wrapped(*args, **kwargs)
