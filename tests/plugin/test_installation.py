"""Remedies install from where this package came from; its name alone is anybody's on PyPI."""

import json
from types import SimpleNamespace

import pytest

from balanced_agg.plugin import installation
from balanced_agg.plugin.installation import install_command, setup_command
from tests.composed import ROOT


def test_a_checkout_is_named_by_its_path():
    assert install_command("analysis") == f"pip install '{ROOT}[analysis]'"
    gpu = f"pip install --extra-index-url {installation.WHEELS_OF_VERL} '{ROOT}[gpu]'"
    assert (install_command("gpu"), setup_command("--gpu")) == (gpu, f"bash {ROOT}/scripts/setup.sh --gpu")


def test_a_path_with_a_space_is_one_word_of_the_command(monkeypatch, tmp_path):
    (tmp_path / "my code/scripts").mkdir(parents=True)
    for name in ("pyproject.toml", "scripts/setup.sh"):
        (tmp_path / "my code" / name).touch()
    monkeypatch.setattr(installation, "CHECKOUT", tmp_path / "my code")
    assert install_command("analysis") == f"pip install '{tmp_path}/my code[analysis]'"
    assert setup_command() == f"bash '{tmp_path}/my code/scripts/setup.sh'"


REPOSITORY = {"url": "https://host/r.git", "vcs_info": {"vcs": "git", "commit_id": "1a2b"}}
IN_A_CHECKOUT = "pip install '.[analysis]' in a checkout of balanced_agg"


@pytest.mark.parametrize(
    ("origin", "command"),
    [
        ({"url": "file://{here}/a%20b.whl", "archive_info": {}}, "pip install '{here}/a b.whl[analysis]'"),
        ({"url": "file://{here}/gone.whl", "archive_info": {}}, IN_A_CHECKOUT),
        ({"url": "https://host/a.whl", "archive_info": {}}, IN_A_CHECKOUT),
        (REPOSITORY, "pip install 'balanced-agg[analysis] @ git+https://host/r.git@1a2b'"),
        (None, IN_A_CHECKOUT),
    ],
    ids=["wheel", "wheel that is gone", "download", "repository", "unknown"],
)
def test_a_package_elsewhere_is_named_by_what_pip_has_noted_of_its_origin(monkeypatch, tmp_path, origin, command):
    (tmp_path / "a b.whl").touch()
    noted = origin and json.dumps(origin).replace("{here}", str(tmp_path))
    monkeypatch.setattr(installation, "CHECKOUT", tmp_path)
    monkeypatch.setattr(installation, "distribution", lambda name: SimpleNamespace(read_text=lambda file: noted))
    assert install_command("analysis") == command.replace("{here}", str(tmp_path))
    assert setup_command() == "bash scripts/setup.sh in a checkout of balanced_agg"


def test_a_package_that_pip_does_not_know_is_installed_from_a_checkout(monkeypatch, tmp_path):
    def unknown(name):
        raise installation.PackageNotFoundError

    monkeypatch.setattr(installation, "CHECKOUT", tmp_path)
    monkeypatch.setattr(installation, "distribution", unknown)
    assert install_command("analysis") == IN_A_CHECKOUT
