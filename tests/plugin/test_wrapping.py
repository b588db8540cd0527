"""The contracts of wrapped functions: what fits works whatever its version, what does not is refused by who asked."""

import inspect
import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from balanced_agg.plugin.checks import in_verl as checks
from balanced_agg.plugin.cpu import groups, in_vllm
from balanced_agg.plugin.cpu import in_verl as cpu
from balanced_agg.plugin.guard import in_verl as guard
from balanced_agg.plugin.loss import in_verl as loss
from balanced_agg.plugin.wrapping import Wrapper, misfits, put_in_place, switched_on

ROOT = Path(__file__).parents[2]
PARTS = (loss, checks, guard, cpu, groups, in_vllm)
# Of other packages, over all parts; docs/plugin.md names them all.
MOST_WRAPPED = 41


CONTRACTS = inspect.cleandoc("""
    import json, sys
    sys.path[:0] = ["", *sys.argv[1:]]  # the checkout first: verl's wheel has tests, too
    import verl
    from tests.plugin.test_wrapping import PARTS
    from balanced_agg.plugin.wrapping import misfits
    print(json.dumps([verl.__version__, {part.__name__: misfits(part.WRAPPERS) for part in PARTS}]))
""")


@pytest.fixture
def contracts(fresh_process):
    """verl's version and the misfits of each part that has some, on the CPU platform.

    With a folder that has another version of verl, that one's.
    """

    def contracts(*folder: str) -> tuple[str, dict[str, list[str]]]:
        # Without checks and guard, which would refuse as the modules are imported.
        done = fresh_process(CONTRACTS, *folder, VERL_PLATFORM="cpu")
        assert done.returncode == 0, done.stderr[-2000:]
        found, parts = json.loads(done.stdout.splitlines()[-1])
        return found, {part: reasons for part, reasons in parts.items() if reasons}

    return contracts


@pytest.mark.slow
def test_what_is_installed_keeps_the_contracts(contracts):
    assert contracts() == (version("verl"), {})


@pytest.mark.slow
def test_verls_previous_version_fits_all_but_the_guard_which_says_what_it_lacks(contracts, tmp_path):
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", tmp_path, "verl==0.9.0"]
    subprocess.run(install, check=True)
    found, misfits_of = contracts(str(tmp_path))
    assert found == "0.9.0"
    assert misfits_of.keys() == {guard.__name__}
    checkpoint, rollout = misfits_of[guard.__name__]
    assert "build_checkpoint_callback" in checkpoint
    assert "_rollout_server_managers" in rollout


def test_each_wrapper_says_what_the_function_does_and_what_we_change():
    for wrapper in (wrapper for part in PARTS for wrapper in part.WRAPPERS):
        assert ("verl" in wrapper.why or "vLLM" in wrapper.why) and ":" in wrapper.why, wrapper.name


def test_no_more_functions_are_wrapped_than_the_docs_say():
    assert len({(wrapper.module, wrapper.name) for part in PARTS for wrapper in part.WRAPPERS}) <= MOST_WRAPPED


@pytest.fixture
def module(tmp_path, monkeypatch):
    """The name of a module that was never imported, with one function."""
    (tmp_path / "not_ours.py").write_text("def double(number, more=0):\n    return 2 * number\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield "not_ours"
    sys.modules.pop("not_ours", None)


def plus_one(wrapped, instance, args, kwargs):
    return wrapped(*args, **kwargs) + 1


@pytest.mark.parametrize("parameters", [("number", "more"), ("number", ...), (...,), ("number", "more", ...)])
def test_a_function_that_fits_is_wrapped_as_its_module_is_imported(module, parameters):
    put_in_place([Wrapper(module, "double", parameters, plus_one)], asked_for="SWITCH=1")
    assert module not in sys.modules
    assert __import__(module).double(3) == 7
    assert misfits([Wrapper(module, "double", parameters, plus_one)]) == []


def test_parts_that_share_a_wrapper_wrap_once(module):
    for asked_for in (None, "SWITCH=1", "OTHER=1"):
        put_in_place([Wrapper(module, "double", (...,), plus_one)], asked_for)
    assert __import__(module).double(3) == 7


@pytest.mark.parametrize(
    ("name", "parameters", "reason"),
    [
        ("double", ("value", "more"), r"not_ours\.double has the parameters \(number, more\), not \(value, more\)"),
        ("double", ("number",), r"not \(number\)"),
        ("double", ("number", "more", "most", ...), r"not \(number, more, most\)"),
        ("triple", (...,), r"not_ours\.triple is not there"),
    ],
)
def test_a_function_that_does_not_fit_is_left_alone_and_refused_where_it_was_asked_for(
    module, name, parameters, reason
):
    wrapper = Wrapper(module, name, parameters, plus_one)
    put_in_place([wrapper])
    assert __import__(module).double(3) == 6
    with pytest.raises(ValueError, match=r"^SWITCH=1: .*" + reason + r".*; install verl==.*or do not set SWITCH"):
        put_in_place([wrapper], asked_for="SWITCH=1")


def test_a_module_that_is_gone_is_a_misfit():
    (reason,) = misfits([Wrapper("verl.gone", "double", (...,), plus_one)])
    assert "verl.gone.double is not there" in reason


@pytest.mark.parametrize(("value", "on"), [("1", True), ("true", True), ("0", False), ("off", False), ("", False)])
def test_a_switch(monkeypatch, value, on):
    monkeypatch.setenv("BALANCED_AGG_TEST", value)
    assert switched_on("BALANCED_AGG_TEST", default="1") is on
    monkeypatch.delenv("BALANCED_AGG_TEST")
    assert switched_on("BALANCED_AGG_TEST") is False
    assert switched_on("BALANCED_AGG_TEST", default="1") is True


@pytest.mark.slow
def test_a_renamed_parameter_of_verl_ends_runs_in_our_modes_and_no_others(fresh_process):
    """In a process of its own: there verl's agg_loss is another one before the plugin comes."""
    script = inspect.cleandoc("""
        import verl
        from verl.trainer.ppo import core_algos

        def agg_loss(loss_matrix, loss_mask, loss_agg_mode, **further):
            return "verl's own"

        core_algos.agg_loss = agg_loss
        import balanced_agg.plugin.loss.in_verl
        from tests.minibatch import make_actor_config
        make_actor_config("token-mean")
        assert core_algos.agg_loss is agg_loss
        make_actor_config("balanced")
    """)
    done = fresh_process(script, VERL_USE_EXTERNAL_PLUGINS="none")
    message = done.stderr.strip().splitlines()[-1]
    assert "Refusal: actor_rollout_ref.actor.loss_agg_mode=balanced: balanced_agg does not fit verl" in message
    assert "core_algos.agg_loss has the parameters (loss_matrix, " in message


def test_the_docs_name_each_wrapped_function_and_why():
    page = (ROOT / "docs/plugin.md").read_text().splitlines()
    rows = {f"| `{wrapper.module}.{wrapper.name}` | {wrapper.why} |" for part in PARTS for wrapper in part.WRAPPERS}
    packages = tuple(f"| `{package}." for package in ("verl", "vllm", "hydra", "transfer_queue", "importlib"))
    assert {line for line in page if line.startswith(packages)} == rows
    assert any(line.startswith(f"{MOST_WRAPPED} functions of verl") for line in page)


def test_another_name_that_a_wrapper_needs_is_part_of_its_contract(module):
    assert misfits([Wrapper(module, "double", (...,), plus_one, needs=("double",))]) == []
    (reason,) = misfits([Wrapper(module, "double", (...,), plus_one, needs=("double", "triple"))])
    assert "triple" in reason
