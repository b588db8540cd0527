"""New weights reach the vLLM of the run that trained them, whatever else runs on the machine.

verl's sender and vLLM's receiver meet at ``/tmp/rl-colocate-zmq-JOB-replica-R-rank-L.sock``. JOB is Ray's number of the
job, 01000000 in each run that starts a Ray of its own: the second of two such runs on a machine takes the first one's
socket away, and both wait for ever, or one's vLLM gets the weights of the other. (Source: verl 0.9.1; the shared
memory behind the socket has a random name.)
"""

import os
from collections.abc import Callable
from typing import Any
from uuid import uuid4

from omegaconf import DictConfig, OmegaConf

RUN_ID = "BALANCED_AGG_RUN_ID"


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
