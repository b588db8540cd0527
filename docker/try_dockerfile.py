"""Execute a Dockerfile's steps and its CMD where there is no container engine.

    python docker/try_dockerfile.py [--secret ID=FILE]… [--volume PATH]… DOCKERFILE ROOT

Needs root, debootstrap and bubblewrap. ROOT, a new folder, becomes Debian bookworm with its own Python 3.11, which
stands in for the image that FROM names. Then each step runs in namespaces of its own, on the files that .dockerignore
lets through: RUN with the network, CMD without. A secret reaches the steps that mount it. A volume is a folder of this
machine that all steps see at the same path, read-only: for a package index on disk.
"""

import argparse
import json
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

CONTEXT = Path(__file__).parent.parent
STAND_IN = ["debootstrap", "--variant=minbase", "--include=python3-dev,python3-venv,ca-certificates", "bookworm"]
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
SHARED_MEMORY = 2 * 2**30  # bytes; what the Dockerfile's docker run asks for


def instructions(text: str) -> Iterator[tuple[str, str]]:
    """(INSTRUCTION, arguments) in order, without comments and with continued lines joined."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    for line in re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines():
        if line.strip():
            name, _, arguments = line.strip().partition(" ")
            yield name.upper(), arguments.strip()


def build_context(context: Path) -> list[PurePosixPath]:
    """The files that .dockerignore lets into the build; ValueError unless it first keeps out all, then names some.

    Of Docker's patterns it knows !PATH, and **/NAME for what to keep out wherever it is.
    """
    lines = (context / ".dockerignore").read_text().splitlines()
    first, *patterns = [line for line in lines if line and not line.startswith("#")]
    if first != "*":
        raise ValueError(f".dockerignore: its first pattern must be *, not {first}")
    entering: set[PurePosixPath] = set()
    for pattern in patterns:
        if pattern.startswith("!"):
            place = context / pattern.removeprefix("!")
            files = [path for path in (place, *place.rglob("*")) if path.is_file()]
            entering |= {PurePosixPath(path.relative_to(context)) for path in files}
        elif pattern.startswith("**/"):
            name = pattern.removeprefix("**/")
            entering = {path for path in entering if not any(fnmatchcase(part, name) for part in path.parts)}
        else:
            raise ValueError(f".dockerignore: {pattern} is neither !PATH nor **/NAME")
    return sorted(entering)


class Root:
    """The root folder in which the steps run, and what earlier steps have set for later ones."""

    def __init__(self, folder: Path, secrets: Mapping[str, str], volumes: list[str]):
        self.folder, self.secrets, self.volumes = folder.resolve(), secrets, volumes
        self.environment = {"PATH": PATH, "HOME": "/root"}
        self.arguments: dict[str, str] = {}
        self.user, self.workdir = "0", "/"
        self.entrypoint: list[str] = []
        self.command: list[str] = []

    def apply(self, name: str, arguments: str) -> None:
        """One instruction but RUN; ValueError for one that is not known here."""
        substituted = re.sub(r"\$\{?(\w+)\}?", lambda found: self.variables[found[1]], arguments)
        match name:
            case "FROM" | "LABEL":
                pass
            case "ARG":
                key, _, value = substituted.partition("=")
                self.arguments[key] = value
            case "ENV":
                self.environment |= dict(pair.split("=", 1) for pair in shlex.split(substituted))
            case "WORKDIR":
                self.workdir = str(PurePosixPath(self.workdir, substituted))
                self.inside(self.workdir).mkdir(parents=True, exist_ok=True)
            case "USER":
                self.user = substituted
            case "COPY":
                *sources, target = shlex.split(substituted)
                self.copy(sources, PurePosixPath(self.workdir, target))
            case "ENTRYPOINT":
                self.entrypoint = json.loads(arguments)
            case "CMD":
                self.command = json.loads(arguments)
            case _:
                raise ValueError(f"{name}: not an instruction that this script knows")

    @property
    def variables(self) -> dict[str, str]:
        return self.arguments | self.environment

    def inside(self, path: str | PurePosixPath) -> Path:
        return self.folder / PurePosixPath(path).relative_to("/")

    def copy(self, sources: list[str], target: PurePosixPath) -> None:
        """COPY into a folder: a file by its name, a folder by its content; FileNotFoundError for what is not there."""
        for source in map(PurePosixPath, sources):
            files = [path for path in build_context(CONTEXT) if path.is_relative_to(source)]
            if not files:
                raise FileNotFoundError(f"COPY {source}: no such file, or .dockerignore keeps it out")
            for path in files:
                place = self.inside(target / (path.relative_to(source) if path != source else path.name))
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(CONTEXT / path, place)

    def run(self, arguments: str) -> None:
        """RUN, with the secrets that it mounts; caches are left out, which only makes it slower."""
        mounts = []
        while found := re.match(r"--mount=(\S+)\s+", arguments):
            options = dict(option.split("=", 1) for option in found[1].split(","))
            if options["type"] == "secret" and options["id"] in self.secrets:
                mounts += ["--ro-bind", self.secrets[options["id"]], options["target"]]
            arguments = arguments[found.end() :]
        self.execute(["/bin/sh", "-c", arguments], mounts, self.variables)

    def execute(self, command: list[str], mounts: list[str], environment: Mapping[str, str]) -> None:
        """Run a command in the root as the user of this point; CalledProcessError if it fails."""
        isolate = ["bwrap", "--die-with-parent", "--unshare-pid", "--unshare-ipc", "--as-pid-1", "--cap-add", "ALL"]
        isolate += ["--bind", str(self.folder), "/", "--dev", "/dev", "--proc", "/proc"]
        isolate += ["--ro-bind", "/sys", "/sys", "--chdir", self.workdir]
        isolate += ["--perms", "1777", "--size", str(SHARED_MEMORY), "--tmpfs", "/dev/shm", *mounts, "--clearenv"]
        for volume in self.volumes:
            isolate += ["--ro-bind", volume, volume]
        for key, value in environment.items():
            isolate += ["--setenv", key, value]
        become = ["setpriv", f"--reuid={self.user}", f"--regid={self.user}", "--clear-groups", "--bounding-set=-all"]
        subprocess.run([*isolate, *(become if self.user != "0" else []), *command], check=True)

    def size(self) -> str:
        done = subprocess.run(["du", "--summarize", "--block-size=MB", self.folder], capture_output=True, text=True)
        return done.stdout.split()[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dockerfile", type=Path, metavar="DOCKERFILE")
    parser.add_argument("root", type=Path, metavar="ROOT")
    parser.add_argument("--secret", action="append", default=[], metavar="ID=FILE")
    parser.add_argument("--volume", action="append", default=[], metavar="PATH")
    options = parser.parse_args()
    root = Root(options.root, dict(secret.split("=", 1) for secret in options.secret), options.volume)

    def timed(label: str, function: Callable, *arguments, **options) -> None:
        print(f"--- {label}", flush=True)
        start = time.monotonic()
        function(*arguments, **options)
        print(f"=== {time.monotonic() - start:.0f} s, root {root.size()}", flush=True)

    options.root.mkdir(parents=True)
    bootstrap = [*STAND_IN, str(root.folder)]
    timed(shlex.join(bootstrap), subprocess.run, bootstrap, check=True, stdout=subprocess.DEVNULL)
    for name, arguments in instructions(options.dockerfile.read_text()):
        if name == "RUN":
            timed(f"RUN {arguments}", root.run, arguments)
        else:
            root.apply(name, arguments)
    command = [*root.entrypoint, *root.command]
    # Without the network: nothing is downloaded at run time.
    timed(f"user {root.user}: {shlex.join(command)}", root.execute, command, ["--unshare-net"], root.environment)


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(f"that step failed: {error}")
