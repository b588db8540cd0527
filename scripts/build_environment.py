"""Build an environment of this checkout from its lock file; scripts/setup.sh calls this.

Runs on any Python from 3.8 on, with its standard library alone, and says in one line what is missing before it installs
anything. While the lock stays the same the environment does; another pyproject.toml has this package installed again.
"""

from __future__ import annotations

import argparse
import ctypes
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn

ROOT = Path(__file__).resolve().parent.parent
# Where the packages are that a lock has no hash for: torch without CUDA, and flash-attn compiled for one torch.
OTHER_INDEX = {
    "torch": "https://download.pytorch.org/whl/cpu",
    "flash-attn": "https://verl-project.github.io/verl-wheelhouse/simple/",
}
# A run without it has to ask for another attention, and is refused until it does.
OPTIONAL = {"flash-attn"}
# verl 0.9.1 says of itself that it is for Python <3.13.
WITHOUT_ASKING = {"3.13": ["--ignore-requires-python"]}
# Of an environment's interpreter, the one that it was made with: that environment may be the one to make anew.
ASK = """
import importlib.util, json, os, sys, sysconfig
command = getattr(sys, "_base_executable", sys.executable)
header = os.path.join(sysconfig.get_path("include"), "Python.h")
ensurepip = importlib.util.find_spec("ensurepip") is not None
print(json.dumps([command, "%d.%d" % sys.version_info[:2], os.path.isfile(header), ensurepip]))
"""


class Kind(NamedTuple):
    """An environment: its folder, its lock, and what the locked packages are for; the first Python is preferred."""

    folder: Path
    lock: Path
    pythons: tuple[str, ...]
    libraries: dict[str, str]


CPU = Kind(ROOT / ".venv", ROOT / "requirements-cpu.lock", ("3.11", "3.12", "3.13"), {"libnuma.so.1": "libnuma1"})
GPU = Kind(ROOT / ".venv-gpu", ROOT / "requirements-gpu.lock", ("3.12",), {})


class Python(NamedTuple):
    """An interpreter: its command and version, and whether its headers and its module ensurepip are there."""

    command: str
    version: str
    headers: bool
    ensurepip: bool


def stop(message: str) -> NoReturn:
    sys.exit(f"setup: {message}")


def asked(command: str) -> Python | None:
    """What an interpreter says of itself; None for one that is not there or does not start."""
    try:
        return Python(*json.loads(subprocess.run([command, "-c", ASK], capture_output=True).stdout))
    except (OSError, ValueError):
        return None


def find_python(kind: Kind) -> Python:
    """The interpreter to build with: the one that PYTHON names, else the first that fits, else one that uv brings."""
    named = os.environ.get("PYTHON")
    commands = [named] if named else [*(f"python{version}" for version in kind.pythons), "python3"]
    found = [python for python in map(asked, commands) if python]
    for python in found:
        if python.version in kind.pythons:
            return python
    there = " and ".join(python.version for python in found) or "none"
    needed = f"needs Python {' or '.join(kind.pythons)}, and {named or 'what the PATH has'} is {there}"
    if named:
        stop(f"{needed}: set PYTHON to another")
    if shutil.which("uv") is None:
        stop(f"{needed}: install it and set PYTHON, or `pip install uv`, by which this script gets it")
    path = next(filter(None, map(known_to_uv, kind.pythons)), None)
    if path is None:
        print(f"setup: {needed}: uv gets {kind.pythons[0]}", flush=True)
        subprocess.run(["uv", "python", "install", kind.pythons[0]])
        path = known_to_uv(kind.pythons[0])
    return asked(path) or stop(f"{needed}, and uv has not got {kind.pythons[0]}")


def known_to_uv(version: str) -> str:
    """The path of an interpreter of this version, in no environment; empty if uv knows of none."""
    command = ["uv", "python", "find", "--system", version]
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout.strip()


def missing(kind: Kind, python: Python) -> Iterator[tuple[str, str]]:
    """(what, Debian's package with it) of what no wheel brings; vLLM and Triton compile whenever they start."""
    if not python.headers:
        yield f"headers of Python {python.version}", f"python{python.version}-dev"
    if not python.ensurepip:
        yield f"module ensurepip of Python {python.version}", f"python{python.version}-venv"
    if shutil.which("g++") is None:
        yield "g++", "g++"
    for library, package in kind.libraries.items():
        try:
            ctypes.CDLL(library)
        except OSError:
            yield library, package


def pip(kind: Kind, *arguments: str, lines: Sequence[str] = (), **options) -> bool:
    """Have the environment's own pip install something, or requirements by their lines; whether it could."""
    command = [f"{kind.folder}/bin/python", "-m", "pip", "--disable-pip-version-check", "-qq", "install", "--no-deps"]
    command += [*arguments, *(["--requirement", "/dev/stdin"] if lines else [])]
    return not subprocess.run(command, input="\n".join(lines), text=True, **options).returncode


def install_lock(kind: Kind, python: Python) -> None:
    """Make the environment anew, of what the lock holds."""
    subprocess.run([python.command, "-m", "venv", "--clear", str(kind.folder)], check=True)
    lines = [line for line in kind.lock.read_text().split("\n") if line and not line.startswith("#")]
    for line in (line for line in lines if "--hash" not in line):
        name, wheel = line.partition("==")[0], ["--only-binary", ":all:", line]
        # Where pip is configured to look comes first: a mirror, or a folder of wheels.
        if pip(kind, *wheel, stderr=subprocess.DEVNULL) or pip(kind, *wheel, "--index-url", OTHER_INDEX[name]):
            continue
        problem = f"no wheel of {line} where pip looks, nor on {OTHER_INDEX[name]}"
        if name not in OPTIONAL:
            stop(problem)
        print(f"setup: {problem}; runs that need it will be refused: see docs/containers.md", file=sys.stderr)
    # Some packages come as source. setuptools, which builds them, is the locked one, too.
    hashed = [line for line in lines if "--hash" in line]
    builder = [line for line in hashed if line.startswith("setuptools==")]
    from_source = ["--no-build-isolation", "--use-pep517", *WITHOUT_ASKING.get(python.version, ())]
    if not (pip(kind, "--require-hashes", lines=builder) and pip(kind, "--require-hashes", *from_source, lines=hashed)):
        stop("pip failed, see above")


def digest(*files: Path) -> str:
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def build(kind: Kind) -> None:
    """Build what is not as its stamp says, and stop the program with a line where that is not possible."""
    stamp = kind.folder / ".installed"
    wanted = {"lock": digest(kind.lock, Path(__file__)), "package": digest(ROOT / "pyproject.toml")}
    try:
        built = json.loads(stamp.read_text())
    except (OSError, ValueError):
        built = {}
    if built == wanted:
        return
    if built.get("lock") != wanted["lock"]:
        if (sys.platform, platform.machine()) != ("linux", "x86_64"):
            stop(f"the locked packages are for Linux on x86_64, not {sys.platform} on {platform.machine()}")
        python = find_python(kind)
        lacking = dict(missing(kind, python))
        if lacking:
            stop(f"missing: {', '.join(lacking)}; on Debian: apt-get install {' '.join(lacking.values())}")
        print(f"setup: building {kind.folder} with Python {python.version} (minutes)", flush=True)
        install_lock(kind, python)
    if not pip(kind, "--no-build-isolation", "--editable", str(ROOT)):
        stop("pip failed, see above")
    stamp.write_text(json.dumps(wanted))
    print("setup: done")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="scripts/setup.sh", description=__doc__.splitlines()[0])
    parser.add_argument("--gpu", action="store_true", help="for NVIDIA GPUs: .venv-gpu from requirements-gpu.lock")
    build(GPU if parser.parse_args().gpu else CPU)
