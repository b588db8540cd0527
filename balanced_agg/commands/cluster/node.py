"""A node of a Ray cluster in the foreground: it lasts until Ctrl-C or SIGTERM, which end what it started and no more.

scripts/ray_cluster.sh head                  # makes the token where there is none, and says how to join and submit
scripts/ray_cluster.sh worker HEAD[:PORT]    # waits for the head, then joins it

The dashboard, which takes jobs, listens on the head's own address; workers have none. The head makes the token in
RAY_AUTH_TOKEN_PATH (default ~/.ray/auth_token), with mode 600; workers need that file. Further options go to
`ray start`: --num-gpus=8, --temp-dir=…. Jobs see the environment that this is started in.
"""

import argparse
import os
import socket
import sys
import time

from balanced_agg.commands.cluster import auth_token

GCS_PORT, DASHBOARD_PORT = 6379, 8265  # Ray's own defaults
RETRY_SECONDS = 0.5


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="scripts/ray_cluster.sh",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    kinds = parser.add_subparsers(required=True, metavar="head|worker")
    head = kinds.add_parser("head", allow_abbrev=False)
    head.add_argument("--node-ip-address", metavar="IP", help="where the head listens (default: as Ray finds it)")
    head.add_argument("--port", type=int, default=GCS_PORT)
    head.add_argument("--dashboard-port", type=int, default=DASHBOARD_PORT)
    head.set_defaults(command=head_command)
    worker = kinds.add_parser("worker", allow_abbrev=False)
    worker.add_argument("head", metavar="HEAD[:PORT]")
    worker.add_argument("--wait", type=float, default=300, metavar="SECONDS", help="for the head (default: 300)")
    worker.set_defaults(command=worker_command)
    options, ray_options = parser.parse_known_args(arguments)
    try:
        if os.environ.get("RAY_AUTH_TOKEN"):
            raise ValueError("RAY_AUTH_TOKEN would be in every process's environment; put the token into a file")
        command = options.command(options)
    except (ValueError, TimeoutError) as error:
        sys.exit(f"ray_cluster: {error}")
    # A run that is cut short goes on from its checkpoint: there is nothing to wait for when a node is told to end.
    os.environ.setdefault("RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    sys.stdout.flush()
    ray_start = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block"]
    os.execv(sys.executable, [*ray_start, *command, *ray_options])


def head_command(options: argparse.Namespace) -> list[str]:
    """Options of `ray start` for the head."""
    auth_token.create()
    file = auth_token.require()
    ip = options.node_ip_address or own_address()
    print(
        f"token file   {file}",
        f"a worker     bash scripts/ray_cluster.sh worker {ip}:{options.port}    # with a copy of the token file",
        f"a run        bash scripts/submit.sh RECIPE --ray-address http://{ip}:{options.dashboard_port}",
        sep="\n",
    )
    listen = [f"--node-ip-address={ip}", f"--port={options.port}"]
    return ["--head", *listen, f"--dashboard-host={ip}", f"--dashboard-port={options.dashboard_port}"]


def own_address() -> str:
    """The address that Ray gives this machine: that of the interface with the default route."""
    import ray

    return ray.util.get_node_ip_address()


def worker_command(options: argparse.Namespace) -> list[str]:
    """Options of `ray start` for a worker, once the head listens."""
    auth_token.require()
    host, _, port = options.head.partition(":")
    port = int(port or GCS_PORT)
    wait_for(host, port, options.wait)
    return [f"--address={host}:{port}"]


def wait_for(host: str, port: int, seconds: float) -> None:
    """TimeoutError if nothing listens there within so many seconds."""
    until = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection((host, port), timeout=5).close()
            return
        except OSError as error:
            if time.monotonic() > until:
                raise TimeoutError(f"no head at {host}:{port} within {seconds:g} s: {error}") from error
            time.sleep(RETRY_SECONDS)


if __name__ == "__main__":
    main(sys.argv[1:])
