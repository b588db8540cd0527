"""``python.py SOCKET ARGUMENTS…``: the interpreter of the fork server that listens on this socket.

Standard library only: it starts in 20 ms. Its exit code, or the signal it dies from, is the child's.
"""

import json
import os
import resource
import signal
import socket
import struct
import sys

FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
LIMITS = [getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")]
SOCKET, ARGUMENTS = sys.argv[1], sys.argv[2:]


def request(files):
    """What the child has to know of this process."""
    umask = os.umask(0)
    os.umask(umask)
    with open("/proc/self/oom_score_adj") as file:
        oom_score = int(file.read())
    return {
        "argv": ARGUMENTS,
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "files": files,
        "group": os.getpgrp(),
        "umask": umask,
        "niceness": os.getpriority(os.PRIO_PROCESS, 0),
        "oom_score": oom_score,
        "cores": sorted(os.sched_getaffinity(0)),
        "limits": [[limit, *resource.getrlimit(limit)] for limit in LIMITS],
        "blocked": [int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, ())],
        "ignored": [int(number) for number in FORWARDED if signal.getsignal(number) == signal.SIG_IGN],
    }


def ask(connection, files):
    """Send a request with this process's open files; returns the child's process id, or 0 where it is refused.

    EOFError if the server ends meanwhile.
    """
    connection.connect(SOCKET)
    body = json.dumps(request(files)).encode()
    socket.send_fds(connection, [struct.pack("!I", len(body))], files)
    connection.sendall(body)
    answer = connection.recv(4, socket.MSG_WAITALL)
    if len(answer) < 4:
        raise EOFError
    return struct.unpack("!i", answer)[0]


def main():
    files = sorted(int(name) for name in os.listdir("/proc/self/fd"))
    files = [number for number in files if os.path.exists(f"/proc/self/fd/{number}")]  # all but the listing's own
    connection = socket.socket(socket.AF_UNIX)
    try:
        child = ask(connection, files)
    except (FileNotFoundError, BrokenPipeError, ConnectionResetError, EOFError):
        os._exit(1)  # the server has ended with its run, which needs this process no more
    except OSError:  # the server was killed, or the files are more than a message takes
        child = 0
    if not child:
        os.execv(sys.executable, [sys.executable, *ARGUMENTS])

    def forward(number, frame):
        try:
            os.kill(child, number)
        except ProcessLookupError:
            pass  # it has just ended; its status is on the way

    for number in FORWARDED:
        signal.signal(number, forward)
    # The child alone holds the files now: who waits for the end of a pipe must not wait for this process too.
    for number in files:
        os.close(number)
    status = connection.recv(4, socket.MSG_WAITALL)
    if len(status) < 4:
        os._exit(1)  # the server has ended, and its children with it
    code = os.waitstatus_to_exitcode(struct.unpack("!i", status)[0])
    if code < 0:
        if -code != signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


main()
