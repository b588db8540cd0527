"""What somebody else wrote is read as data, in bounded time, and reaches nothing outside of itself."""

import os

import pytest
from omegaconf import OmegaConf

from balanced_agg.untrusted import (
    DEEPEST,
    Unreadable,
    interpolated,
    parse_json,
    read_json,
    read_yaml,
    select,
    shown,
)

CONFIG = {
    "run": {"recipe": "r", "seed": 3, "group": "${run.recipe}-${mode}", "name": "${run.group}-seed${run.seed}"},
    "mode": "balanced",
    "sizes": {"7b": {"tokens": 9}},
    "size": "7b",
    "files": ["${run.recipe}/a", "b"],
    "also": "${files}",
    "missing": "???",
    "null": None,
}


@pytest.mark.parametrize(
    ("value", "resolved"),
    [
        ("${run.seed}", 3),
        ("${run.name}", "r-balanced-seed3"),
        ("${sizes.${size}.tokens}", 9),
        ("${also}", ["r/a", "b"]),
        ("${files}", ["r/a", "b"]),
        ("a ${run.seed} b", "a 3 b"),
        ("plain", "plain"),
    ],
)
def test_an_interpolation_finds_what_omegaconf_finds_in_the_same_config(value, resolved):
    config = CONFIG | {"value": value}
    expected = OmegaConf.select(OmegaConf.create(config), "value")
    assert select(config, "value") == resolved == expected


BEYOND = [
    "${oc.env:WANDB_API_KEY}",
    "${oc.env:NOT_SET,x}",
    "x-${oc.env:WANDB_API_KEY}-seed1",
    "${oc.decode:${oc.env:WANDB_API_KEY}}",
    "${oc.create:{a: '${oc.env:WANDB_API_KEY}'}}",
    "${oc.select:run.seed,${oc.env:WANDB_API_KEY}}",
    "${oc.deprecated:run.seed}",
    "${oc.dict.values:run}",
    "${hydra:runtime.cwd}",
    "${mine:}",
    "${a}{oc.env:WANDB_API_KEY}",
    "${dollar}{oc.env:WANDB_API_KEY}",
    "${.seed}",
    "${value}",
    "${nowhere.at.all}",
    "${missing}",
    "${",
    "${}",
    "a ${files} b",
]


@pytest.mark.parametrize("value", BEYOND)
def test_an_interpolation_to_anything_else_resolves_to_nothing_and_is_named(value, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "the key")
    OmegaConf.register_new_resolver("mine", lambda *_: os.environ["WANDB_API_KEY"], replace=True)
    config = CONFIG | {"value": value, "dollar": "$", "list": [value]}
    try:
        assert select(config, "value") is None
        assert interpolated(config, "value", "mode", "run.name") == [("value", value)]
        assert select(config, "list") == [None]
    finally:
        OmegaConf.clear_resolver("mine")


def test_interpolations_that_double_a_text_forty_times_end_at_once():
    config = {"a0": "x" * 10} | {f"a{n}": f"${{a{n - 1}}}" * 2 for n in range(1, 40)}
    assert select(config, "a39") is None
    assert select(config, "a5") == "x" * 320


YAML = {
    "an alias": (b"a: &x [1]\nb: *x\n", "line 2 has an alias"),
    "a key twice": (b"a: 1\nb: {c: 1, c: 2}\n", "a key stands there twice, line 2"),
    "brackets": (b"[" * 100_000, "nested too deeply"),
    "dashes": (b"- " * 100_000, "nested too deeply"),
    "more than a config has": (b"a: 1\n" * 200_000, "bytes"),
    "an object of Python's": (b"a: !!python/object/apply:os.system ['exit 1']\n", "constructor for the tag"),
    "a tag on what it cannot be": (b"a: !!bool maybe\n", ""),
    "torn in a list": (b"a: [1, 2", ""),
    "no text": (b"a: \xff\xfe", ""),
    "two documents": (b"a: 1\n---\nb: 2\n", ""),
}


@pytest.mark.parametrize(("content", "why"), YAML.values(), ids=YAML.keys())
def test_yaml_that_hydra_does_not_write_is_refused_in_one_line(content, why, tmp_path):
    (tmp_path / "config.yaml").write_bytes(content)
    with pytest.raises(Unreadable, match=rf"config\.yaml cannot be read: .*{why}") as caught:
        read_yaml(tmp_path / "config.yaml")
    assert "\n" not in str(caught.value)


def test_numbers_of_yaml_are_hydras(tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text("a: 1e-5\nb: -0.5\nc: 0x10\nd: 2026-01-01\ne: .inf\nf: '1'\n")
    assert read_yaml(file) | {"d": "2026-01-01"} == OmegaConf.to_container(OmegaConf.load(file))
    # To base 60, and longer than Python prints: in both of them a megabyte takes minutes.
    file.write_text(f"a: 1:30\nb: {'9' * 5000}\nc: 0x{'f' * 5000}\nd: {'1:' * 50_000}1\n")
    assert all(isinstance(value, str) for value in read_yaml(file).values())


@pytest.mark.parametrize("name", ["a FIFO", "a device", "a directory", "nothing"])
def test_what_is_no_regular_file_is_refused_and_never_waited_for(name, tmp_path):
    path = tmp_path / "config.yaml"
    if name == "a FIFO":
        os.mkfifo(path)
    elif name == "a device":
        path.symlink_to("/dev/zero")
    elif name == "a directory":
        path.mkdir()
    for read in (read_yaml, read_json):
        with pytest.raises(Unreadable, match=r"config\.yaml cannot be read: "):
            read(path)


@pytest.mark.parametrize("depth", [DEEPEST + 1, 900, 100_000])
@pytest.mark.parametrize("pair", ["[]", "{}"])
def test_json_that_is_nested_more_deeply_than_python_can_print_is_refused(depth, pair):
    opening = "[" if pair == "[]" else '{"a":'
    text = opening * depth + "1" + pair[1] * depth
    with pytest.raises(ValueError, match="nested too deeply"):
        parse_json(text)
    assert parse_json(opening * (DEEPEST - 1) + "1" + pair[1] * (DEEPEST - 1))


@pytest.mark.parametrize(
    ("text", "as_text"),
    [
        ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
        ("\x9b31m", r"\x9b31m"),
        ("a\rb\nc\x7f", r"a\rb\nc\x7f"),
        ("safe\u202egnp.exe", r"safe\u202egnp.exe"),
        ("\u2066\u200f\ufeff\u2028", r"\u2066\u200f\ufeff\u2028"),
        ("\U000e0041", r"\U000e0041"),
        ("\ud800", r"\ud800"),
        ("数学 é × 🎲", "数学 é × 🎲"),
    ],
)
def test_what_a_terminal_obeys_or_a_reader_does_not_see_is_shown_as_text(text, as_text):
    assert shown(text) == as_text and as_text.isprintable()
    assert shown(f"{text}\n", keep="\n").endswith("\n")
