"""Packages that a run lacks or cannot use are refused before Ray, and told by the doctor: TRL, flash-attn, torch.

None of this is needed here, but made up.
"""

import inspect
import re
import sys
from importlib.metadata import requires
from types import ModuleType

import pytest
import torch
from verl.utils.model import patch_valuehead_model
from verl.workers.config import HFModelConfig

from balanced_agg.commands.doctor.check import FAIL, WARN
from balanced_agg.commands.doctor.recipe import Recipe, refusals
from balanced_agg.commands.doctor.verl_lines import check_packages as doctors_check
from balanced_agg.commands.doctor.verl_lines import check_platform
from balanced_agg.plugin import checks
from balanced_agg.plugin.checks import packages
from balanced_agg.plugin.checks.packages import check_attention, check_torch, check_trl, trl_problem
from balanced_agg.plugin.refusal import Refusal
from tests.composed import ROOT, compose_recipe

CLASS = "class AutoModelForCausalLMWithValueHead: ..."
# Files of a made-up TRL.
FITS = {
    "where verl looks first": {"trl/__init__.py": "", "trl/experimental/ppo/__init__.py": CLASS},
    "where it was before": {"trl/__init__.py": CLASS},
    "where it was before, beside others": {"trl/__init__.py": CLASS, "trl/experimental/ppo/__init__.py": ""},
}
BREAKS = {
    "moved away": {"trl/__init__.py": "", "trl/experimental/ppo/__init__.py": ""},
    "a folder of that name": {"trl/README": ""},
    "an import that fails": {"trl/__init__.py": "import no_such_module"},
    "an import that raises": {
        "trl/__init__.py": "",
        "trl/experimental/ppo/__init__.py": "raise RuntimeError('no\\nGPU')",
    },
}


@pytest.fixture(autouse=True)
def cpu(monkeypatch):
    monkeypatch.setenv("VERL_PLATFORM", "cpu")


@pytest.fixture
def trl(monkeypatch, tmp_path):
    """Put a made-up TRL, and its metadata, where Python finds it; its folder."""
    loaded = {name for name in sys.modules if name.partition(".")[0] == "trl"}
    assert not loaded

    def made(files: dict[str, str]):
        for name, text in (files | {"trl-1.16.0.dist-info/METADATA": "Name: trl\nVersion: 1.16.0\n"}).items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
        monkeypatch.syspath_prepend(tmp_path)
        return tmp_path / "trl"

    yield made
    for name in [name for name in sys.modules if name.partition(".")[0] == "trl"]:
        del sys.modules[name]


def verl_fails() -> bool:
    """Whether an import of verl's own, of the same class, fails; behind it, it asks the model that it is given."""
    try:
        patch_valuehead_model(None)
    except AttributeError as error:
        assert "named_parameters" in str(error)
        return False
    except (ImportError, RuntimeError):
        return True


def test_a_machine_without_trl_is_fine():
    check_trl(compose_recipe("arithmetic"))
    assert list(doctors_check(Recipe())) == []


@pytest.mark.parametrize("files", FITS.values(), ids=FITS.keys())
def test_a_trl_from_which_verl_can_import_passes(files, trl):
    trl(files)
    check_trl(compose_recipe("arithmetic"))
    assert not verl_fails()


@pytest.mark.parametrize("files", BREAKS.values(), ids=BREAKS.keys())
def test_a_trl_from_which_verl_cannot_import_is_refused_with_the_remedy(files, trl):
    folder = trl(files)
    config = compose_recipe("arithmetic")
    with pytest.raises(ValueError) as refused:
        check_trl(config)
    said = str(refused.value)
    assert said.startswith("trl 1.16.0 in ") and str(folder) in said and "\n" not in said
    assert "pip uninstall trl" in said
    (fitting,) = {line.partition(";")[0].strip() for line in requires("verl") if line.startswith("trl")}
    assert f"pip install --no-deps '{fitting}'" in said
    assert verl_fails()


def test_a_trl_that_is_loaded_from_nowhere_is_judged_as_well(trl, monkeypatch):
    monkeypatch.setitem(sys.modules, "trl", ModuleType("trl"))
    assert "ImportError" in trl_problem()


def test_the_doctor_says_it_once_with_a_recipe_and_without(trl, monkeypatch):
    trl(BREAKS["moved away"])
    (line,) = doctors_check(Recipe())
    assert (line.check, line.status) == ("trl", FAIL) and "pip uninstall trl" in line.remedy
    assert check_trl in checks.CHECKS
    monkeypatch.setattr("balanced_agg.commands.doctor.recipe.CHECKS", (check_trl,))
    monkeypatch.setattr("balanced_agg.commands.doctor.recipe.validate_config", lambda *_, **__: None)
    config = compose_recipe("arithmetic")
    found = list(refusals(config))
    assert [line.check for line in found] == ["refused: trl"]
    assert list(doctors_check(Recipe("arithmetic", config, found))) == []


def test_an_engine_that_does_not_use_trl_is_left_alone(trl):
    trl(BREAKS["moved away"])
    assert trl_problem()
    check_trl(compose_recipe("arithmetic", "actor_rollout_ref.actor.strategy=megatron"))


PAPER = "qwen3_1.7b_dapo17k"
SDPA = "++actor_rollout_ref.model.override_config.attn_implementation=sdpa"


@pytest.fixture
def on_gpus(monkeypatch):
    monkeypatch.setenv("VERL_PLATFORM", "")


@pytest.fixture
def flash_attn(monkeypatch, tmp_path):
    """Put a made-up flash-attn where Python finds it."""

    def made(text: str) -> None:
        (tmp_path / "flash_attn").mkdir()
        (tmp_path / "flash_attn/__init__.py").write_text(text)
        monkeypatch.syspath_prepend(tmp_path)

    assert "flash_attn" not in sys.modules
    yield made
    sys.modules.pop("flash_attn", None)


def test_without_flash_attn_a_run_on_gpus_is_refused_with_what_to_do_and_verls_default_is_what_it_would_use(on_gpus):
    with pytest.raises(Refusal) as refused:
        check_attention(compose_recipe(PAPER))
    said = str(refused.value)
    assert said.startswith(
        "actor_rollout_ref.model.override_config.attn_implementation=flash_attention_2, which is the "
    )
    assert "No module named 'flash_attn'" in said and f"set {SDPA}" in said
    default = re.search(r"attn_implementation = self.override_config.get\((.+)\)", inspect.getsource(HFModelConfig))[1]
    assert default == f'"attn_implementation", "{packages.FLASH}"'


@pytest.mark.parametrize(
    ("python", "remedy"),
    [
        ((3, 12), f"pip install --no-deps --only-binary :all: --index-url {packages.WHEELS_OF_VERL} flash-attn==2.8.3"),
        ((3, 11), f"bash {ROOT}/scripts/setup.sh --gpu, with Python 3.12"),
    ],
)
def test_the_remedy_is_verls_own_wheel_where_there_is_one(monkeypatch, python, remedy):
    monkeypatch.setattr(packages.sys, "version_info", python)
    assert packages.flash_attn_remedy().startswith(remedy)


def test_a_flash_attn_that_does_not_load_is_none(on_gpus, flash_attn):
    flash_attn("raise ImportError('undefined symbol:\\n_ZN3c10')")
    with pytest.raises(Refusal, match="undefined symbol: _ZN3c10"):
        check_attention(compose_recipe(PAPER))


def test_only_what_uses_flash_attn_needs_it(on_gpus, flash_attn, monkeypatch):
    sequential = "actor_rollout_ref.actor.ulysses_sequence_parallel_size=1"
    check_attention(compose_recipe(PAPER, SDPA, sequential))  # packed all the same: tests/plugin/loss/test_engine.py
    check_attention(compose_recipe(PAPER, "actor_rollout_ref.actor.strategy=megatron"))
    check_attention(compose_recipe(PAPER, "++ray_kwargs.ray_init.runtime_env.py_executable=/other/python"))
    with monkeypatch.context() as patch:
        patch.setattr("transformers.utils.is_kernels_available", lambda: True)
        check_attention(compose_recipe(PAPER))
    flash_attn("flash_attn_varlen_func = None")
    check_attention(compose_recipe(PAPER))


def test_on_cpu_none_is_asked_for(monkeypatch):
    check_attention(compose_recipe("arithmetic"))
    check_attention(compose_recipe(PAPER, "hardware=cpu"))
    assert list(doctors_check(Recipe())) == []
    monkeypatch.setenv("VERL_PLATFORM", "")
    (line,) = doctors_check(Recipe())
    assert (line.check, line.status) == ("flash-attn", WARN)
    assert list(doctors_check(Recipe(PAPER, compose_recipe(PAPER)))) == []  # whose refusal it is


@pytest.mark.parametrize("attention", ["sdpa", "eager", "null"])
def test_sequence_parallelism_under_an_attention_that_exchanges_nothing_is_refused(attention):
    """Of SP 2 on sdpa, the engine's gradient was seen to be off by 0.4 of its norm."""
    key = "actor_rollout_ref.actor.ulysses_sequence_parallel_size"
    other = SDPA.replace("sdpa", attention)
    with pytest.raises(Refusal, match=f"^{key}=2 with attn_implementation=.*set it to 1"):
        check_attention(compose_recipe("arithmetic", f"{key}=2", other))
    check_attention(compose_recipe("arithmetic", f"{key}=2", SDPA.replace("sdpa", packages.FLASH)))


@pytest.fixture
def nvidia_smi(monkeypatch):
    monkeypatch.setattr(packages.shutil, "which", lambda name: f"/usr/bin/{name}" if name == "nvidia-smi" else None)


def test_a_torch_without_cuda_beside_gpus_is_refused_by_its_name_unless_the_run_is_for_cpu(nvidia_smi, monkeypatch):
    with pytest.raises(Refusal, match=rf"torch {re.escape(torch.__version__)} in {sys.prefix} is built without CUDA"):
        check_torch(compose_recipe(PAPER))
    check_torch(compose_recipe("arithmetic"))
    check_torch(compose_recipe(PAPER, "hardware=cpu"))
    monkeypatch.setattr("torch.version.cuda", "13.0")
    check_torch(compose_recipe(PAPER))


def test_a_machine_without_gpus_is_another_checks_matter():
    check_torch(compose_recipe(PAPER))
    names = [check.__name__ for check in checks.CHECKS]
    assert names.index("check_torch") < names.index("check_platform")  # which would speak of the platform alone
    assert check_attention in checks.CHECKS


def test_the_doctor_names_such_a_torch_with_a_recipe_for_cpu_and_without_one(nvidia_smi, monkeypatch):
    line = check_platform()
    assert line.status == WARN and "built without CUDA" in line.detail
    assert line.remedy.startswith(f"bash {ROOT}/scripts/setup.sh --gpu")
    monkeypatch.setenv("VERL_PLATFORM", "")
    assert check_platform().status == FAIL
