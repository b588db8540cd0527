"""What the sandbox starts: gives up the last privileges, sets the limits, reports ready, runs the script.

Arguments: the file descriptors of the script and of what to report to, the uid to run as ("" keeps it), directories of
further packages, whether to do without huge pages ("" does not), then NAME=VALUE for each RLIMIT_NAME. Imports only the
standard library, because nothing else is there.
"""

import os
import resource
import sys

PR_SET_THP_DISABLE = 41


def main(script_fd: str, ready_fd: str, uid: str, packages: str, small_pages: str, *limits: str) -> None:
    if uid:
        os.setgroups([])
        os.setresgid(int(uid), int(uid), int(uid))
        os.setresuid(int(uid), int(uid), int(uid))
    if small_pages:
        import ctypes

        ctypes.CDLL(None).prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0)
    for limit in limits:
        name, value = limit.split("=")
        number = getattr(resource, f"RLIMIT_{name}")
        hard = resource.getrlimit(number)[1]
        bound = int(value) if hard == resource.RLIM_INFINITY else min(int(value), hard)
        resource.setrlimit(number, (bound, bound))
    sys.path += packages.split(os.pathsep)
    with open(int(script_fd), encoding="utf-8") as file:  # noqa: PTH123  a file descriptor
        script = compile(file.read(), "<script>", "exec")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    os.write(int(ready_fd), b"ready")
    os.close(int(ready_fd))
    exec(script, {"__name__": "__main__"})


if __name__ == "__main__":
    main(*sys.argv[1:])
