"""What tests of several commands share."""

import pytest

from balanced_agg.commands import recipes


@pytest.fixture
def toy_recipe(tmp_path, monkeypatch):
    """The working directory, a fresh one, where `toy` is the only recipe."""
    for name in ("VERL_FILE_LOGGER_PATH", "BALANCED_AGG_ROOT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(recipes, "recipe_names", lambda: ["toy"])
    return tmp_path
