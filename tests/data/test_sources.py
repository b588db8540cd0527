"""Claims about which local files are read, in which formats, and what is said of bad ones."""

import csv
import json

import pytest
from balanced_agg.data.registry import CHOICES
from balanced_agg.data.sources import find_source, local_files, local_rows

from tests.data.sources import write_jsonl, write_parquet

MATH_500, AIME_2024, OLYMPIADBENCH, LIVECODEBENCH, DAPO17K = (
    CHOICES[name][0] for name in ("math_500", "aime_2024", "olympiadbench", "livecodebench", "dapo17k")
)
ROWS = [{"problem": "a, b", "answer": "025"}, {"problem": "ü", "answer": "NA"}]


def write(path, rows):
    if path.suffix == ".parquet":
        return write_parquet(path, rows)
    if path.suffix == ".jsonl":
        return write_jsonl(path, rows)
    if path.suffix == ".json":
        path.write_text(json.dumps(rows))
        return path
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.mark.parametrize("format", ["parquet", "jsonl", "json", "csv"])
def test_all_formats_give_the_same_rows(tmp_path, format):
    assert list(local_rows([write(tmp_path / f"rows.{format}", ROWS)])) == ROWS


@pytest.mark.parametrize("format", ["parquet", "jsonl"])
def test_parts_are_read_in_order(tmp_path, format):
    files = [write(tmp_path / f"test-{part}-of-2.{format}", [row]) for part, row in enumerate(ROWS)]
    assert list(local_rows(local_files(MATH_500, tmp_path, only_one=True))) == ROWS
    assert local_files(MATH_500, tmp_path, only_one=True) == files


def test_fields_of_differing_types_do_not_stop_the_other_rows(tmp_path):
    rows = [{"problem": "a", "answer": 1}, {"problem": ["b"], "answer": "x"}, {"problem": "c", "answer": {"d": 1}}]
    assert list(local_rows([write_jsonl(tmp_path / "rows.jsonl", rows)])) == rows


@pytest.mark.parametrize(
    "name, content",
    [
        ("rows.jsonl", b'{"problem": \n garbage'),
        ("rows.jsonl", b"1\n2\n"),
        ("rows.jsonl", b'{"problem": "\\ud800", "answer": "1"}\n'),
        ("rows.jsonl", b"\xff\xfe\x00"),
        ("rows.parquet", b"not parquet"),
        ("rows.parquet", b""),
        ("rows.csv", b'problem,answer\n"never closed, 1\n2,3,4\n'),
    ],
)
def test_unreadable_file_is_named(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"{name} cannot be read"):
        list(local_rows([path]))


def test_empty_file_has_no_rows(tmp_path):
    assert list(local_rows([write_jsonl(tmp_path / "rows.jsonl", [])])) == []


FOLDER = [
    "MATH-500/test.jsonl",
    "MATH-500/README.md",
    "MATH-500/.cache/huggingface/test.jsonl",
    "aime2024.jsonl",
    "dapo_aime2024.parquet",
    "dapo17k/data/dapo-math-17k.parquet",
    "OlympiadBench/OE_MM_maths_en_COMP/OE_MM_maths_en_COMP.parquet",
    "OlympiadBench/OE_TO_maths_en_COMP/OE_TO_maths_en_COMP.parquet",
    "livecodebench/release_v4/test-00000-of-00001.parquet",
    "livecodebench/release_v5/test-00000-of-00002.parquet",
    "livecodebench/release_v5/test-00001-of-00002.parquet",
    "livecodebench/dataset_infos.json",
]


@pytest.mark.parametrize(
    "dataset, chosen",
    [
        (MATH_500, [0]),
        (AIME_2024, [3]),
        (DAPO17K, [5]),
        (OLYMPIADBENCH, [7]),
        (LIVECODEBENCH, [9, 10]),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_files_in_one_folder_are_told_apart_by_name_configuration_and_split(tmp_path, dataset, chosen):
    for name in FOLDER:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    expected = [tmp_path / FOLDER[number] for number in chosen]
    assert local_files(dataset, tmp_path, only_one=False) == expected
    identity, _ = find_source(dataset, tmp_path, only_one=False)
    assert list(identity["source_files"]) == [FOLDER[number] for number in chosen]


def test_folder_of_one_set_needs_no_names(tmp_path):
    file = write_jsonl(tmp_path / "whatever.jsonl", ROWS)
    assert local_files(MATH_500, tmp_path, only_one=True) == [file]
    with pytest.raises(ValueError, match=r"has no .* file for math_500.*whatever.jsonl"):
        local_files(MATH_500, tmp_path, only_one=False)


def test_unrelated_files_are_not_guessed_from(tmp_path):
    write_jsonl(tmp_path / "one.jsonl", ROWS)
    write_jsonl(tmp_path / "other.jsonl", ROWS)
    with pytest.raises(ValueError, match="several files for math_500"):
        local_files(MATH_500, tmp_path, only_one=True)


def test_missing_source_and_unknown_format_are_errors(tmp_path):
    with pytest.raises(ValueError, match="does not exist"):
        local_files(MATH_500, tmp_path / "none", only_one=True)
    (tmp_path / "rows.txt").write_text("")
    with pytest.raises(ValueError, match=r"must be one of .parquet, .jsonl, .json, .csv"):
        local_files(MATH_500, tmp_path / "rows.txt", only_one=True)
    with pytest.raises(ValueError, match="one file"):
        local_files(MATH_500, write_jsonl(tmp_path / "rows.jsonl", ROWS), only_one=False)
