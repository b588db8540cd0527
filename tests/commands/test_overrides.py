"""Whatever a path is, Hydra reads it as it was written: in overrides that we build, and in those that are typed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from balanced_agg.commands.overrides import override, quote_paths, value_of
from balanced_agg.commands.recipes import compose_recipe
from balanced_agg.commands.train import command

NAMES = ["a space", "jörg's", "日本", ",()[]{}=&;\"'", "back\\slash\\'", "${x}$", "a:b", "50%", " ends ", "~a|b*?#!"]


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"])))
def test_a_value_arrives_as_it_was_given_and_so_does_what_refers_to_it(text):
    config = OmegaConf.create({"path": value_of(override("path", text)), "file": "${path}/file"})
    assert (config.path, config.file) == (text, f"{text}/file")


@pytest.mark.parametrize("value", ["null", "1", "true", "1e3", "[a]", "a,b", ""])
def test_what_hydra_would_read_as_something_else_stays_a_string(value):
    assert value_of(override("key", value)) == value


def test_an_ordinary_path_stays_legible():
    assert override("run.dir", "/home/joe/runs/a-b_c.d") == "run.dir=/home/joe/runs/a-b_c.d"


@pytest.mark.parametrize("name", NAMES)
def test_every_recipe_composes_in_any_folder(tmp_path, monkeypatch, name):
    (tmp_path / name).mkdir()
    monkeypatch.setenv("BALANCED_AGG_ROOT", str(tmp_path / name))
    config = compose_recipe("arithmetic")
    assert config.run.dir == f"{tmp_path}/{name}/outputs/arithmetic-balanced-seed1"
    assert config.data.train_files == f"{tmp_path}/{name}/artifacts/arithmetic/length_gap/train.parquet"


@pytest.mark.parametrize(
    "name", [name for name in NAMES if "\\" not in name and "$" not in name and name.strip() == name]
)
def test_a_path_that_is_typed_is_a_path(tmp_path, monkeypatch, name):
    monkeypatch.setenv("BALANCED_AGG_ROOT", str(tmp_path))
    (tmp_path / name).touch()
    for path in (f"/home/{name}/model", name):
        given = command("arithmetic", [f"actor_rollout_ref.model.path={path}"])[-1]
        assert value_of(given) == path


@pytest.mark.parametrize(
    "argument",
    [
        "a=[1,2]",
        "a=[1,2",
        "a={b:c}",
        "a=b,c",
        "--cfg",
        "--config-dir=/a,b",
        "~a",
        "a='/b c'",
        "a=/${b}/c",
        "+a=1",
        "a=" + 300 * "ö",
        "a=ö\0",
        "a=ö",
    ],
)
def test_anything_else_is_left_to_hydra(tmp_path, argument):
    assert quote_paths([argument], tmp_path) == [argument]
    assert quote_paths(["a=/b,/c", "--multirun"], tmp_path) == ["a=/b,/c", "--multirun"]
