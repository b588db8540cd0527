"""``python -m balanced_agg.plugin.cpu.fork_server.server FOLDER LISTENER EARLY MODULE…``: import, then fork on request.

LISTENER is the number of the open file that listens on ``FOLDER/socket``, EARLY a list of modules, with commas. The
server ends, its children killed and the folder removed, when its standard input does.
"""

import contextlib
import gc
import importlib
import json
import os
import selectors
import shutil
import signal
import socket
import struct
import sys
from collections.abc import Iterable
from pathlib import Path

from balanced_agg.plugin.cpu.fork_server import child, start_values
from balanced_agg.plugin.cpu.fork_server.randomness import children_draw_the_same, kept_from_ray

# pyarrow's allocator has fork handlers, which start its thread anew in the child.
SURVIVING_THREADS = {"jemalloc_bg_thd"}
MOST_FILES = 253  # that a message takes on Linux


class Server:
    def __init__(self, folder: Path, listener: socket.socket, early: list[str], modules: list[str]):
        self._folder, self._listener, self._modules = folder, listener, modules
        self._preloaded = False
        # Variables for later imports to find (vLLM's and tensordict's do).
        self._left_by_imports = variables_left_by(early, dict(os.environ))
        self._obstacle = ""  # what of the imports keeps every child from being like a fresh process
        self._running: dict[int, tuple[int, socket.socket]] = {}  # pid -> pidfd, connection to who asked for it
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(sys.stdin, selectors.EVENT_READ)

    def serve(self) -> dict:
        """Fork for every request until standard input ends; returns in each child, with what it is to become."""
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is sys.stdin:
                    shutil.rmtree(self._folder, ignore_errors=True)
                    os._exit(0)
                elif key.fileobj is not self._listener:
                    self._end(key.data, asker_is_gone=isinstance(key.fileobj, socket.socket))
                elif request := self._answer():
                    return request

    def _answer(self) -> dict | None:
        """Fork for the next request, or refuse it. None, but in the child the request."""
        connection, _ = self._listener.accept()
        request = receive(connection)
        if request is None or not self._can_fork(request):
            with contextlib.suppress(OSError):
                connection.sendall(struct.pack("!i", 0))
            pid = None
        elif (pid := os.fork()) == 0:
            self._let_go()
            connection.close()
            return request | {"environment": self._left_by_imports | request["environment"]}
        for file in request["received"] if request else []:
            os.close(file)
        if pid is None:
            connection.close()
            return None
        connection.sendall(struct.pack("!i", pid))
        pidfd = os.pidfd_open(pid)
        self._running[pid] = pidfd, connection
        self._selector.register(pidfd, selectors.EVENT_READ, pid)
        self._selector.register(connection, selectors.EVENT_READ, pid)
        return None

    def _can_fork(self, request: dict) -> bool:
        """Whether a fork would be no different from the process that is asked for."""
        if len(request["received"]) != len(request["files"]):
            return False
        if not child.understands(request["argv"]) or not child.may_have(request):
            return False
        if not self._preloaded:
            self._preload_for(request["environment"])
        environment = self._left_by_imports | request["environment"]
        same = start_values(environment) == start_values() and are_loaded(environment.get("LD_PRELOAD", ""))
        return same and not self._obstacle

    def _preload_for(self, environment: dict[str, str]) -> None:
        """Import in the environment of the first request: it has the number of Ray's job, and says how to reach Ray."""
        # Only what differs: children find the place of their title by the first environment.
        for name in os.environ.keys() - environment.keys() - self._left_by_imports.keys():
            del os.environ[name]
        os.environ.update((self._left_by_imports | environment).items() - os.environ.items())
        with kept_from_ray():
            self._left_by_imports = variables_left_by(self._modules, environment)
        self._preloaded = True
        gc.collect()
        gc.freeze()  # so that collections in a child do not copy the shared pages
        if threads := other_threads() - SURVIVING_THREADS:
            self._obstacle = f"imports started {threads}"
        elif children_draw_the_same():
            self._obstacle = "an import has had Ray draw an id"
        if self._obstacle:
            print(f"fork server: each process imports for itself; {self._obstacle}", file=sys.stderr)

    def _end(self, pid: int, asker_is_gone: bool) -> None:
        if pid not in self._running:  # both of its files were ready at once
            return
        if asker_is_gone:  # it was killed, for it waits for its child
            os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        pidfd, connection = self._running.pop(pid)
        self._selector.unregister(pidfd)
        self._selector.unregister(connection)
        with contextlib.suppress(OSError):
            connection.sendall(struct.pack("!i", status))
        os.close(pidfd)
        connection.close()

    def _let_go(self) -> None:
        """In a child: close what is the server's."""
        self._selector.close()
        self._listener.close()
        for pidfd, connection in self._running.values():
            os.close(pidfd)
            connection.close()


def variables_left_by(modules: Iterable[str], environment: dict[str, str]) -> dict[str, str]:
    """Import the modules; the variables of this process whose values are then others than in ``environment``."""
    for module in modules:
        try:
            importlib.import_module(module)
        except ImportError as error:
            print(f"fork server: {module} is left to each process: {error}", file=sys.stderr)
    return {name: value for name, value in os.environ.items() if environment.get(name) != value}


def other_threads() -> set[str]:
    """Names of this process's threads but this one: in a child they are gone, and what they hold is held for ever."""
    tasks = [task for task in Path("/proc/self/task").iterdir() if task.name != str(os.getpid())]
    return {(task / "comm").read_text().strip() for task in tasks}


def are_loaded(libraries: str) -> bool:
    """Whether this process has loaded each of LD_PRELOAD's libraries. vLLM sets it for torch's own OpenMP."""
    maps = Path("/proc/self/maps").read_text()
    return all(f" {os.path.realpath(path)}\n" in maps for path in libraries.split(":") if path)


def receive(connection: socket.socket) -> dict | None:
    """The request on this connection, with the files that came with it; None if whoever asked is gone."""
    header, received, _, _ = socket.recv_fds(connection, 4, MOST_FILES)
    if len(header) < 4:
        return None
    (length,) = struct.unpack("!I", header)
    body = connection.recv(length, socket.MSG_WAITALL)
    return json.loads(body) | {"received": received}


if __name__ == "__main__":
    # A Ctrl-C reaches the whole group; the server ends after the process that started it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    server_folder = Path(sys.argv[1])
    early_modules = [name for name in sys.argv[3].split(",") if name]
    server = Server(server_folder, socket.socket(fileno=int(sys.argv[2])), early_modules, sys.argv[4:])
    child.become(server.serve(), interpreter=server_folder / "python")
