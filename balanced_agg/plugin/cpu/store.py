"""The store at which torch's processes meet, on one address: torch opens it on all interfaces, and lets anyone in."""

import socket

from torch.distributed import TCPStore


def open_store(host: str, port: int = 0) -> TCPStore:
    """A store that listens on this address of the machine alone, on any free port where none is given.

    OSError for an address that is not this machine's, or in use. It does not wait for others.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, port), family=family)
    port = listener.getsockname()[1]
    return TCPStore(host, port, is_master=True, wait_for_workers=False, master_listen_fd=listener.detach())
