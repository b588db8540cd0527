"""The part of ``torch.cuda``'s interface that verl 0.9.1 calls, for the machine's processor.

Memory figures are the process's resident memory, in bytes: what an operator wants to see under ``perf/``.
"""

import os
import platform
import resource

import psutil
import torch
from torch.cpu import (  # noqa: F401
    Stream,
    current_device,
    current_stream,
    device_count,
    is_available,
    set_device,
    stream,
    synchronize,
)


def cores() -> int:
    """Cores this process may run on."""
    return len(os.sched_getaffinity(0))


def get_device_name(device: object = None) -> str:
    return f"CPU {platform.processor() or platform.machine()}"


def get_rng_state(device: object = None) -> torch.Tensor:
    return torch.get_rng_state()


def set_rng_state(state: torch.Tensor, device: object = None) -> None:
    torch.set_rng_state(state)


def empty_cache() -> None:
    pass


def ipc_collect() -> None:
    pass


def memory_allocated(device: object = None) -> int:
    return psutil.Process().memory_info().rss


def max_memory_allocated(device: object = None) -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


memory_reserved = memory_allocated
max_memory_reserved = max_memory_allocated


def mem_get_info(device: object = None) -> tuple[int, int]:
    """(free, total) bytes of the machine."""
    memory = psutil.virtual_memory()
    return memory.available, memory.total
