"""A TRL that verl cannot use is refused before Ray, and told by the doctor; TRL is not needed here, but made up."""

import sys
from importlib.metadata import requires
from types import ModuleType

import pytest
from verl.utils.model import patch_valuehead_model

from balanced_agg.commands.doctor.check import FAIL
from balanced_agg.commands.doctor.recipe import Recipe, refusals
from balanced_agg.commands.doctor.verl_lines import check_trl as doctors_check
from balanced_agg.plugin import checks
from balanced_agg.plugin.checks.packages import check_trl, trl_problem
from tests.composed import compose_recipe

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
