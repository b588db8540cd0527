"""Machines on this machine: each has its own network namespace with an address, and its own /tmp.

They share all other files, as the nodes of a cluster share a file system. It takes root, `unshare`, `nsenter` and `ip`.
"""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from shlex import quote
from typing import Any

from tests.end_to_end.launch import ROOT

INTERFACE = "eth0"
TOOLS = ("unshare", "nsenter", "ip", "mount")


def why_not() -> str | None:
    """What keeps this machine from being several, or None."""
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        return f"not installed: {', '.join(missing)}"
    cable = "ip link add name left type veth peer name right"
    command = ["unshare", "--net", "--mount", *cable.split()]
    tried = subprocess.run(command, capture_output=True, text=True)
    return f"network namespaces cannot be made here: {tried.stderr.strip()}" if tried.returncode else None


@dataclass
class Node:
    address: str
    keeper: subprocess.Popen  # keeps the namespaces
    environment: dict[str, str] = field(default_factory=dict)

    def start(self, *command: str, **options: Any) -> subprocess.Popen:
        inside = ["nsenter", f"--target={self.keeper.pid}", "--net", "--mount", f"--wdns={ROOT}", *command]
        # tests/conftest.py keeps runs of this machine out of any cluster
        environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"} | self.environment
        return subprocess.Popen(inside, env=environment, **options)

    def run(self, *command: str, **options: Any) -> subprocess.CompletedProcess:
        process = self.start(*command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        try:
            output, _ = process.communicate(**options)
        finally:
            process.kill()
        return subprocess.CompletedProcess(command, process.returncode, output)


@contextmanager
def node(number: int, folder: Path) -> Iterator[Node]:
    """Machine 10.9.8.`number`, whose /tmp is a folder in ``folder``; of the other /tmp it sees ``folder`` and ROOT."""
    own = folder / f"tmp{number}"
    seen = {shared: own / shared.relative_to("/tmp") for shared in (folder, ROOT) if shared.is_relative_to("/tmp")}
    for place in (own, *seen.values()):
        place.mkdir(parents=True, exist_ok=True)
    steps = [
        "mount --make-rprivate /",
        *(f"mount --bind {quote(str(shared))} {quote(str(place))}" for shared, place in seen.items()),
        f"mount --rbind {quote(str(own))} /tmp",
        "ip link set lo up",
        "echo ready; exec sleep infinity",
    ]
    command = ["unshare", "--net", "--mount", "sh", "-ec", "\n".join(steps)]
    keeper = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert keeper.stdout.readline() == "ready\n"
        yield Node(f"10.9.8.{number}", keeper, {"GLOO_SOCKET_IFNAME": INTERFACE})
    finally:
        keeper.send_signal(signal.SIGKILL)
        keeper.wait()


@contextmanager
def two_nodes(folder: Path) -> Iterator[tuple[Node, Node]]:
    """Two machines with a cable between them."""
    with ExitStack() as stack:
        nodes = tuple(stack.enter_context(node(number, folder)) for number in (1, 2))
        first, second = (str(each.keeper.pid) for each in nodes)
        cable = f"link add {INTERFACE} netns {first} type veth peer name {INTERFACE} netns {second}"
        subprocess.run(["ip", *cable.split()], check=True)
        for each in nodes:
            done = each.run(
                "sh", "-ec", f"ip address add {each.address}/24 dev {INTERFACE}; ip link set {INTERFACE} up"
            )
            assert done.returncode == 0, done.stdout
        yield nodes
