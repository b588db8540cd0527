"""A hostile program has no network."""

import secrets
import socket

import pytest

from tests.rewards.code.hostile.outside import lines, run


def test_no_network():
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as unix:
        tcp.setblocking(False)
        unix.bind(f"\0{secrets.token_hex(8)}")
        unix.listen()
        unix.setblocking(False)
        execution = run(f"""
            import socket, urllib.request
            ways = [lambda: socket.create_connection(("127.0.0.1", {tcp.getsockname()[1]}), 1),
                    lambda: socket.socket(socket.AF_UNIX).connect({unix.getsockname()!r}),
                    lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM), lambda: socket.socket(socket.AF_INET6),
                    lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW), lambda: socket.create_server(("", 0)),
                    lambda: socket.getaddrinfo("localhost", 80), lambda: socket.getaddrinfo("example.com", 80),
                    lambda: urllib.request.urlopen("http://127.0.0.1:{tcp.getsockname()[1]}", timeout=1)]
            for way in ways:
                try:
                    way()
                    print("reached")
                except OSError:
                    pass
        """)
        for listener in (tcp, unix):
            with pytest.raises(BlockingIOError):
                listener.accept()
    assert lines(execution) == []
