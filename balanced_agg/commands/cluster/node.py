"""A node of a Ray cluster in the foreground: it runs until Ctrl-C or SIGTERM, which end what it started and no more.

The dashboard, which takes jobs, listens on the head's own address; workers have none. The head makes the token in
RAY_AUTH_TOKEN_PATH (default ~/.ray/auth_token), with mode 600; workers need that file.

``ray symmetric-run``, which would start head, workers and run in one command, is not used: it passes no SIGTERM on to
the run (Slurm's time limit), continues when a node is lost, exits with 0 if a node does not start, and its last step is
``ray stop``, which ends every Ray of the user on the machine.
"""

import os
import re
import socket
import sys
import time
from collections.abc import Sequence
from typing import NoReturn

from balanced_agg.commands.cluster import auth_token

GCS_PORT = 6379  # Ray's own default
RETRY_SECONDS = 0.5


def head(ip: str | None, port: int, dashboard_port: int, ray_options: Sequence[str]) -> NoReturn:
    """Become the head; ValueError for a token that is exported, or that others can read, and for some paths."""
    refuse_exported_token()
    if re.search(r"[^\w@%+=:,./-]", sys.executable):
        # Ray starts its client server by a command line without quotes, and the head ends with that.
        raise ValueError(f"Ray starts no head from {sys.executable}; move it to a path without spaces")
    auth_token.create()
    file = auth_token.require()
    if ip is None:
        import ray

        ip = ray.util.get_node_ip_address()  # that of the interface with the default route
    print(
        f"token file   {file}",
        f"a worker     balanced-agg node worker {ip}:{port}    # with a copy of the token file",
        f"a run        balanced-agg submit RECIPE --ray-address http://{ip}:{dashboard_port}",
        sep="\n",
        flush=True,
    )
    listen = [f"--node-ip-address={ip}", f"--port={port}", f"--dashboard-host={ip}"]
    ray_start("--head", *listen, f"--dashboard-port={dashboard_port}", *ray_options)


def worker(head: str, wait: float, ray_options: Sequence[str]) -> NoReturn:
    """Become a worker, once the head (HOST[:PORT]) listens; TimeoutError if it does not within `wait` seconds."""
    refuse_exported_token()
    auth_token.require()
    host, _, port = head.partition(":")
    port = int(port or GCS_PORT)
    wait_for(host, port, wait)
    ray_start(f"--address={host}:{port}", *ray_options)


def refuse_exported_token() -> None:
    if os.environ.get("RAY_AUTH_TOKEN"):
        raise ValueError("RAY_AUTH_TOKEN would be in every process's environment; put the token into a file")


def ray_start(*options: str) -> NoReturn:
    # An interrupted run resumes from its checkpoint: a node that is told to end has nothing to wait for.
    os.environ.setdefault("RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.execv(sys.executable, [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", *options])


def wait_for(host: str, port: int, seconds: float) -> None:
    """TimeoutError if nothing listens there within so many seconds."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection((host, port), timeout=5).close()
            return
        except OSError as error:
            if time.monotonic() > deadline:
                raise TimeoutError(f"no head at {host}:{port} within {seconds:g} s: {error}") from error
            time.sleep(RETRY_SECONDS)
