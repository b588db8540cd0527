"""The command line of bubblewrap (bwrap): what a sandbox is made of, and which files there are in it.

There are the interpreter, the standard library, the system's libraries, the packages that programs may import with the
libraries that these need, a few devices, and of /proc what is about the sandbox's own processes. All of it is
read-only. Nothing else of the interpreter's prefix is there, which may be a home.
"""

import functools
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

START_SECONDS = 60.0  # for an interpreter to start, in a sandbox or not
ENTRY = Path(__file__).with_name("sandbox_entry.py")
ENTRY_INSIDE = "/sandbox_entry.py"
PARTS = Path(__file__).with_name("interpreter_parts.py")
PACKAGES = ("numpy", "sortedcontainers")  # what programs may import beside the standard library
PACKAGES_INSIDE = "/packages"
SYSTEM = ("/usr/lib", "/usr/lib64", "/lib", "/lib64", "/etc/ld.so.cache")
ENVIRONMENT = {"PYTHONUTF8": "1", "PYTHONHASHSEED": "0", "OPENBLAS_NUM_THREADS": "1"}
# A user namespace of root's would map its user to the host's root, which RLIMIT_NPROC does not bind.
ROOT = ["--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
ORDINARY = ["--unshare-user", "--uid", "65534", "--gid", "65534", "--cap-drop", "ALL"]
SEPARATE = ["--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try"]


def bubblewrap(filter_fd: int) -> list[str]:
    """The command, without what it is to run, of a sandbox under the seccomp filter in this file descriptor.

    subprocess.SubprocessError if the interpreter cannot say what it needs.
    """
    mounts = _mounts()
    # Directories that bwrap makes on its own for a mount may be closed to other users.
    above = sorted({str(parent) for target in mounts for parent in Path(target).parents} - {"/", *mounts})
    return [
        str(shutil.which("bwrap")),
        *(ROOT if os.geteuid() == 0 else ORDINARY),
        *[*SEPARATE, "--hostname", "sandbox", "--new-session", "--die-with-parent"],
        *(word for path in above for word in ("--perms", "0755", "--dir", path)),
        *(word for target, source in mounts.items() for word in ("--ro-bind-try", source, target)),
        *(word for folder in _hidden_folders() for word in _empty(folder)),
        *["--proc", "/proc", *_empty("/proc/1"), *_hidden_facts()],
        # Memory of /dev/zero that is mapped and shared would be counted no longer than it is mapped.
        *["--dev", "/dev", *_empty("/dev/pts"), "--ro-bind", "/dev/null", "/dev/zero"],
        *["--remount-ro", "/dev", "--remount-ro", "/", "--seccomp", str(filter_fd)],
    ]


def python_command() -> list[str]:
    """The interpreter as it runs inside: no site-packages, nothing of the user's or beside the script, no bytecode."""
    return [str(_executable()), "-s", "-S", "-P", "-B"]


def package_folders() -> dict[str, Path]:
    """Where those of PACKAGES lie that are installed."""
    specs = {name: importlib.util.find_spec(name) for name in PACKAGES}
    return {name: Path(spec.origin).parent for name, spec in specs.items() if spec and spec.origin}


def packages_outside() -> str:
    """The folders to import PACKAGES from, outside of a sandbox, as PYTHONPATH has them."""
    return os.pathsep.join(sorted({str(folder.parent) for folder in package_folders().values()}))


def _executable() -> Path:
    return Path(getattr(sys, "_base_executable", sys.executable)).resolve()


@functools.cache
def _parts() -> dict[str, list[str]]:
    """What `interpreter_parts` says of the interpreter."""
    command = [*python_command(), str(PARTS), packages_outside(), *PACKAGES]
    done = subprocess.run(
        command, capture_output=True, stdin=subprocess.DEVNULL, env=ENVIRONMENT, check=True, timeout=START_SECONDS
    )
    return json.loads(done.stdout)


@functools.cache
def _mounts() -> dict[str, str]:
    """Paths inside and outside of the sandbox."""
    inside = {ENTRY_INSIDE: str(ENTRY)}
    packages = package_folders().values()
    for part in (part for folder in packages for part in (folder, folder.with_suffix(".libs"))):
        inside[f"{PACKAGES_INSIDE}/{part.name}"] = str(part)
    mounts: dict[str, str] = {}
    for path in (*SYSTEM, *_parts()["folders"], str(_executable()), *_parts()["libraries"]):
        if not any(map(Path(path).is_relative_to, (*mounts, *inside.values()))):
            mounts[path] = path
    return mounts | inside


@functools.cache
def _hidden_folders() -> list[str]:
    """Packages that lie among what is mounted, and that programs cannot import."""
    beside = (f"{folder}/{name}" for folder in _parts()["folders"] for name in ("site-packages", "dist-packages"))
    others = {Path(folder) for folder in (*_parts()["others"], *beside)}
    return sorted(str(folder) for folder in others if folder.is_dir() and any(map(folder.is_relative_to, _mounts())))


def _hidden_facts() -> list[str]:
    """Puts nothing in the place of what a sandbox could read in /proc about this machine."""
    words = []
    with os.scandir("/proc") as entries:
        for entry in entries:
            if entry.name.isdigit() or entry.is_symlink():
                continue
            if entry.is_dir():
                words += _empty(entry.path)
            elif entry.stat().st_mode & 0o004:
                words += ["--ro-bind", "/dev/null", entry.path]
    return words


def _empty(folder: str) -> list[str]:
    return ["--tmpfs", folder, "--remount-ro", folder]
