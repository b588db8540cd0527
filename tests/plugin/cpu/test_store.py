"""The ranks of a run meet at a store that listens on their node's address alone."""

import os

import psutil
import pytest
import torch
from verl.utils import distributed
from verl.utils.net_utils import get_free_port

from balanced_agg.plugin.cpu.in_verl import _join_process_group

pytestmark = pytest.mark.slow


def listens_on() -> set[str]:
    """The addresses that this process listens on for connections."""
    connections = psutil.Process().net_connections("tcp")
    return {found.laddr.ip.removeprefix("::ffff:") for found in connections if found.status == psutil.CONN_LISTEN}


def take_part(rank: int, size: int, port: int, driver) -> None:
    """What verl does in a rank; tells the driver the sum over ranks, and what the process listens on."""
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    initialize = getattr(distributed.initialize_global_process_group_ray, "__wrapped__", None)
    _join_process_group(initialize or distributed.initialize_global_process_group_ray, None, (), {})
    total = torch.tensor([rank + 1.0])
    torch.distributed.all_reduce(total)
    driver.send((total.item(), listens_on()))
    driver.recv()


@pytest.mark.parametrize("size", [1, 2])
def test_ranks_meet_on_their_own_address_alone(processes_with_verl, size):
    port, _ = get_free_port("127.0.0.1")
    ends = []
    for rank in range(size):
        here, there = processes_with_verl.Pipe()
        processes_with_verl.Process(target=take_part, args=(rank, size, port, there), daemon=True).start()
        ends.append(here)
    for end in ends:
        assert end.poll(60)
        total, addresses = end.recv()
        assert total == sum(range(1, size + 1)) and not addresses & {"0.0.0.0", "::"}
    for end in ends:
        end.send("leave")
