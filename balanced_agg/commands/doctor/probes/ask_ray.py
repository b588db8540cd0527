"""Which Ray cluster would ray.init() join, and what does it have?"""

import os
from pathlib import Path
from typing import Any


def probe(address: str | None = None) -> dict[str, Any]:
    """{"address", "nodes": resources of each live node, "free": of all nodes}; {"address": None} where none is joined.

    Raises whatever Ray does where a cluster is named but cannot be joined.
    """
    address = address or os.environ.get("RAY_ADDRESS") or started_here()
    if address in (None, "local"):  # "local" is Ray's word for a cluster of the run's own
        return {"address": None}
    import ray

    ray.init(address=address, log_to_driver=False, configure_logging=False)
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return {"address": address, "nodes": nodes, "free": ray.available_resources()}


def temp_folder() -> Path:
    """Where Ray keeps logs, sockets and what it spills to disk."""
    return Path(os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp", "ray")


def started_here() -> str | None:
    """Address of the cluster that `ray start` made on this machine; Ray joins that one and no other unasked."""
    file = temp_folder() / "ray_current_cluster"
    return file.read_text().strip() or None if file.exists() else None
