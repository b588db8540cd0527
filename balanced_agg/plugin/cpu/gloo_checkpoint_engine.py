"""verl's checkpoint engine ``gloo``: weights from the trainer to rollout servers of their own, without an accelerator.

``trainer.v1.trainer_mode=separate_async`` takes such an engine, and verl's own need GPUs or NPUs. Registered under
``VERL_PLATFORM=cpu`` (in_verl.py); chosen by ``actor_rollout_ref.rollout.checkpoint_engine.backend=gloo``.
"""

import json
from collections.abc import AsyncIterator, Iterable
from typing import Any

import ray
import torch
from torch.distributed import PrefixStore, ProcessGroupGloo, TCPStore
from verl.checkpoint_engine.base import CheckpointEngine, CheckpointEngineRegistry
from verl.workers.rollout.utils import ensure_async_iterator

from balanced_agg.plugin.cpu.store import open_store

NOT_IN_GROUP = -1


@CheckpointEngineRegistry.register("gloo")
class GlooCheckpointEngine(CheckpointEngine):
    """Broadcasts weights one by one from the trainer's rank 0 to all rollout workers.

    For each transfer verl calls ``prepare`` in all workers, ``build_topology`` in the driver, ``init_process_group`` in
    all workers, ``send_weights`` in the trainer's while ``receive_weights`` runs in the rollout's, and ``finalize`` in
    all. Where the process at the other end has died, sending and receiving raise what torch and gloo raise.

    Args:
        bucket_size: bytes; not used. A tensor travels alone and may be of any size: one at a time is held.
        is_master: whether this is the trainer's rank 0, which sends.
    """

    def __init__(self, bucket_size: int, is_master: bool = False) -> None:
        self.is_master = is_master

    def prepare(self) -> tuple[str, int] | None:
        """Open the store at which the group meets: its host and port in the master, None elsewhere."""
        if not self.is_master:
            return None
        host = ray.util.get_node_ip_address()
        self._store = open_store(host)
        return host, self._store.port

    @classmethod
    def build_topology(
        cls, actor_wg_world_size: int, rollout_world_size: int, metadata: list[tuple[str, int] | None]
    ) -> tuple[dict[str, list], dict[str, list]]:
        """The arguments of ``init_process_group`` for each trainer rank and each rollout worker.

        `metadata` is what ``prepare`` gave in each of them, trainer ranks first.
        """
        size = 1 + rollout_world_size

        def arguments(ranks: list[int]) -> dict[str, list]:
            return {"rank": ranks, "size": [size] * len(ranks), "address": [metadata[0]] * len(ranks)}

        return arguments([0] + [NOT_IN_GROUP] * (actor_wg_world_size - 1)), arguments(list(range(1, size)))

    def init_process_group(self, rank: int, size: int, address: tuple[str, int]) -> None:
        """Join the other ``size - 1`` workers at the store, and wait for them. Nothing for ranks outside the group."""
        self._group = None
        if rank == NOT_IN_GROUP:
            return
        if not self.is_master:
            self._store = TCPStore(*address, is_master=False, wait_for_workers=False)
        # Not torch.distributed's default group: that one joins the trainer's ranks, or the rollout's, alone.
        # torch's stubs know this call only with a time limit.
        self._group = ProcessGroupGloo(PrefixStore("group", self._store), rank, size)  # pyright: ignore

    def finalize(self) -> None:
        """Leave the group, and close the store."""
        self._group = self._store = None

    async def send_weights(self, weights: Iterable[tuple[str, torch.Tensor]], global_steps: int | None = None) -> None:
        """Send names and tensors, of any shape and dtype, in their order."""
        sent = 0
        # Each weight is gathered from all trainer ranks, so those outside the group walk through them, too.
        async for name, weight in ensure_async_iterator(weights):
            if self._group is not None:
                dtype = str(weight.dtype).removeprefix("torch.")
                self._announce(sent, {"name": name, "dtype": dtype, "shape": list(weight.shape)})
                self._broadcast(weight.detach().contiguous())
                sent += 1
        if self._group is not None:
            self._announce(sent, None)

    async def receive_weights(self, global_steps: int | None = None) -> AsyncIterator[tuple[str, torch.Tensor]]:
        """Yield names and tensors as they were sent, bit for bit, each tensor with memory of its own."""
        received = 0
        while (announced := json.loads(self._store.get(str(received)))) is not None:
            weight = torch.empty(announced["shape"], dtype=getattr(torch, announced["dtype"]))
            self._broadcast(weight)
            received += 1
            yield announced["name"], weight

    def _announce(self, number: int, announced: dict[str, Any] | None) -> None:
        self._store.set(str(number), json.dumps(announced))

    def _broadcast(self, weight: torch.Tensor) -> None:
        """From rank 0 into this contiguous tensor, as bytes, since gloo does not know all dtypes."""
        if weight.numel():
            self._group.broadcast(weight.view(-1).view(torch.uint8), 0).wait()
