"""Runs at the same time keep apart: each has its folder to itself, and its weights reach its own vLLM.

verl's sender of new weights and vLLM's receiver meet at ``/tmp/rl-colocate-zmq-JOB-replica-R-rank-L.sock``. JOB is
Ray's number of the job, 01000000 in each run that starts a Ray of its own: the second of two such runs on a machine
takes the first one's socket away, and both wait for ever, or one's vLLM gets the weights of the other. (Source: verl
0.9.1; the shared memory behind the socket has a random name.)
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

from omegaconf import DictConfig, OmegaConf

from balanced_agg.plugin import logger
from balanced_agg.plugin.refusal import Refusal
from balanced_agg.runs.lock import lock

RUN_ID = "BALANCED_AGG_RUN_ID"
LOCK = ".lock"

_locked: dict[Path, int] = {}  # by this process: folder -> descriptor of its lock


def lock_folder(config: DictConfig) -> None:
    """Lock the folder in which a run keeps checkpoints and log, in the driver, before it starts Ray.

    It is ``run.dir`` in our recipes and ``trainer.default_local_dir`` in others that save checkpoints. A second run
    there would truncate the first one's log and delete its checkpoints. The file ``.lock``, which stays, says who has
    it. It is locked until this process ends, which may run there again. A file system without locks gets a warning.

    Raises:
        Refusal: another process has it, or it cannot be written.
    """
    key = "run.dir" if "run" in config else "trainer.default_local_dir" if config.trainer.save_freq > 0 else None
    if key is None or "://" in (named := str(OmegaConf.select(config, key))):
        return
    folder = Path(named).resolve()
    if folder in _locked:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = lock(folder / LOCK)
    except BlockingIOError as error:
        remedy = "wait for its end, or end it, or set it to another folder"
        raise Refusal(key, f"={named} is in use by {error.strerror}", remedy) from None
    except OSError as error:
        raise Refusal(key, f"={named} cannot be written ({error.strerror})", "set it to another folder") from None
    if file is None:
        logger.warning("%s is on a file system without locks: start no second run in it", named)
    else:
        _locked[folder] = file


def name_run(config: DictConfig) -> None:
    """Let Ray set, in all processes of this launch on all nodes, an id that no other launch has.

    Where the caller has started Ray already, verl hands it no environment, and the name of the socket stays verl's.
    """
    OmegaConf.update(config, f"ray_kwargs.ray_init.runtime_env.env_vars.{RUN_ID}", uuid4().hex, force_add=True)


def use_own_socket(wrapped: Callable, transfer: Any, args: tuple, kwargs: dict) -> None:
    """verl's sender and vLLM's receiver of new weights meet at a socket whose name other runs on the machine use, too:
    add the id of the launch to it.

    `transfer` is verl's ``BucketedWeightSender`` or ``BucketedWeightReceiver``, which have opened nothing yet.
    """
    wrapped(*args, **kwargs)
    if run_id := os.environ.get(RUN_ID):
        transfer.zmq_handle += f"-{run_id}"
