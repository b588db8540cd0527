"""Claims about which local files are read, in which formats, and what is said of bad ones."""

import csv
import json
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from balanced_agg.data.dataset import text
from balanced_agg.data.registry import CHOICES
from balanced_agg.data.sources import find_source, local_files, local_rows

from tests.data.sources import write_jsonl, write_parquet

MATH_500, AIME_2024, AIME_2025, OLYMPIADBENCH, LIVECODEBENCH, DAPO17K = (
    CHOICES[name][0] for name in ("math_500", "aime_2024", "aime_2025", "olympiadbench", "livecodebench", "dapo17k")
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


LITERALS = [
    "0.7",
    "0.70",
    "-0",
    "-0.0",
    "1e3",
    "1E+400",
    "12.0",
    "2.50e-7",
    f"{2**64 + 1}",
    "9" * 5000,
    "0.1" + "0" * 30,
]


@pytest.mark.parametrize("format", ["jsonl", "json"])
def test_a_gold_of_json_is_as_it_is_written_whatever_the_other_rows_hold(tmp_path, format):
    answers = [*LITERALS, '"025"', '"1e3"', '"x"', *LITERALS]
    lines = [f'{{"answer": {answer}}}' for answer in answers]
    path = tmp_path / f"rows.{format}"
    path.write_text("\n".join(lines) if format == "jsonl" else f"[{', '.join(lines)}]")
    found = [text(row["answer"], "answer") for row in local_rows([path])]
    assert found == [answer.strip('"') for answer in answers]


def test_missing_numbers_of_json_are_missing(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"answer": NaN}\n{"answer": null}\n{"answer": 1}\n')
    assert [text(row["answer"], "answer") for row in local_rows([path])] == ["", "", "1"]


@pytest.mark.parametrize(
    "kind, values, golds",
    [
        (pa.float32(), [0.7, 142.0, 1e-7, None], ["0.7", "142", "1e-07", ""]),
        (pa.float64(), [0.7, 142.0, 1e23, None], ["0.7", "142", "1e+23", ""]),
        (pa.decimal128(5, 2), [Decimal("0.70"), Decimal("12.00")], ["0.70", "12.00"]),
        (pa.int64(), [2**62 + 1], [f"{2**62 + 1}"]),
    ],
    ids=lambda value: str(value) if isinstance(value, pa.DataType) else "",
)
def test_a_number_of_parquet_becomes_its_shortest_text_at_any_depth(tmp_path, kind, values, golds):
    path, column = tmp_path / "rows.parquet", pa.array(values, kind)
    lists = [pa.array([[value] for value in values], of(kind)) for of in (pa.list_, pa.large_list)]
    pq.write_table(pa.table([column, pa.StructArray.from_arrays([column], ["gold"]), *lists], list("abcd")), path)
    for row, gold in zip(local_rows([path]), golds, strict=True):
        assert [text(value, "gold") for value in (row["a"], row["b"]["gold"], *row["c"], *row["d"])] == [gold] * 4


CSV = 'problem,answer\n"a, b",025\nü,NA\n'
JSONL = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("name, content", [("a.csv", CSV), ("a.jsonl", JSONL), ("a.json", json.dumps(ROWS, indent=1))])
def test_byte_order_marks_and_line_ends_are_no_part_of_the_rows(tmp_path, name, content, encoding, line_end):
    path = tmp_path / name
    path.write_bytes(content.replace("\n", line_end).encode(encoding))
    assert list(local_rows([path, path])) == ROWS * 2


def test_files_with_byte_order_marks_may_be_joined(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(JSONL.encode("utf-8-sig") * 2)
    assert list(local_rows([path])) == ROWS * 2


def test_text_is_split_at_no_line_separator_but_a_line_feed(tmp_path):
    rows = [{"problem": "a\u2028b\u2029c\x85d\x0ce\rf", "answer": "1"}]
    path = tmp_path / "rows.jsonl"
    path.write_text(
        json.dumps(rows[0], ensure_ascii=False).replace("\\f", "\f").replace("\\r", "\r") + "\n", encoding="utf-8"
    )
    assert list(local_rows([path])) == rows
    assert list(local_rows([write(tmp_path / "rows.csv", rows)])) == rows


def test_empty_fields_at_the_end_of_a_line_of_csv_do_not_matter(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text('problem,answer\n"a, b",025,,\nü,NA\n\n', encoding="utf-8")
    assert list(local_rows([path])) == ROWS


def test_a_field_of_csv_may_be_long(tmp_path):
    rows = [{"problem": "a" * 200_000, "answer": "1"}]
    assert list(local_rows([write(tmp_path / "rows.csv", rows)])) == rows


@pytest.mark.parametrize("values", ["[1, 2]", "3", '"text"', "null"])
def test_a_row_of_json_is_an_object(tmp_path, values):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"answer": 1}\n' + values + "\n")
    with pytest.raises(ValueError, match=r"rows.jsonl cannot be read: line 2.*object"):
        list(local_rows([path]))


@pytest.mark.parametrize(
    "name, content, place",
    [
        ("torn.jsonl", b'{"answer": 1}\n{"answer": 2}\n{"answer": "thr', "line 3, column 12"),
        ("torn.jsonl", b'{"answer": 1}\n\n{"answer": ', "line 3, column 12"),
        ("torn.jsonl", b'{"answer": 1}\n{"answer": 2}\n' + bytes(9), "line 3, column 1"),
        ("torn.json", b'[{"answer": 1},\n{"answer": 2},\n{"ans', "line 3, column 2"),
        ("torn.json", b'{"answer": 1}\n{"answer": 2}\n{"ans', "line 3, column 2"),
        ("escape.jsonl", b'{"answer": "1"}\n{"answer": "\\alpha"}\n', "line 2, column 13"),
        ("latin.jsonl", '{"answer": 1}\n{"answer": "é"}\n'.encode("latin-1"), "line 2: not UTF-8"),
        ("half.jsonl", b'{"answer": "1"}\n{"answer": "\\ud835"}\n', "line 2: not UTF-8"),
        ("half.json", b'[{"answer": "1"},\n{"answer": "\\ud835"}]\n', "line 1, element 2: not UTF-8"),
        ("torn.csv", b"problem,answer\na,1\nb", "line 3"),
        ("torn.csv", b'problem,answer\na,1\n"b', "line 3"),
        ("comma.csv", b"problem,answer\na,1\nb,1,234\n", "line 3"),
        ("latin.csv", "problem,answer\na,1\né,2\n".encode("latin-1"), "line 3: not UTF-8"),
        ("torn.parquet", b"PAR1 torn", ""),
    ],
)
def test_an_unreadable_row_is_named_in_one_line(tmp_path, name, content, place):
    good, path = write_jsonl(tmp_path / "good.jsonl", ROWS), tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"^{path} cannot be read: {place}") as error:
        list(local_rows([good, path]))
    assert "\n" not in str(error.value)


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


@pytest.mark.parametrize("depth", [101, 400, 2000])
def test_columns_nested_beyond_any_use_are_an_error(tmp_path, depth):
    kind = pa.int64()
    for _ in range(depth):
        kind = pa.list_(kind)
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"a": pa.nulls(300, kind)}), path)
    with pytest.raises(ValueError, match=r"rows.parquet cannot be read: .*too deeply nested"):
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


@pytest.mark.parametrize(
    "names",
    [
        ("aime2025-I.jsonl", "aime2025-II.jsonl"),
        ("AIME_2025_i.jsonl", "AIME_2025_ii.jsonl"),
        ("AIME2025-I/test.jsonl", "AIME2025-II/test.jsonl"),
    ],
)
def test_a_set_in_two_parts_is_one_folder_or_both_files(tmp_path, names):
    write_jsonl(tmp_path / "in" / "aime2024.jsonl", [{"problem": "another set", "answer": "1"}])
    files = [write_jsonl(tmp_path / "in" / name, [row]) for name, row in zip(names, ROWS, strict=True)]
    for path in (tmp_path / "in", files):
        identity, open_rows = find_source(AIME_2025, path, only_one=True)
        rows, _, record = open_rows()
        assert list(rows) == ROWS
        assert len(identity["source_files"]) == 2 and record["source"]
    reversed_identity, _ = find_source(AIME_2025, files[::-1], only_one=True)
    assert list(reversed_identity["source_files"]) == list(identity["source_files"])[::-1]


def test_parts_may_differ_in_format_and_the_same_file_is_given_once(tmp_path):
    files = [write(tmp_path / f"rows.{format}", ROWS) for format in ("parquet", "jsonl", "csv", "json")]
    assert list(find_source(MATH_500, files, only_one=True)[1]()[0]) == ROWS * 4
    with pytest.raises(ValueError, match="the same file twice"):
        find_source(MATH_500, [files[0], files[1], files[0]], only_one=True)


def test_missing_source_and_unknown_format_are_errors(tmp_path):
    with pytest.raises(ValueError, match="does not exist"):
        local_files(MATH_500, tmp_path / "none", only_one=True)
    (tmp_path / "rows.txt").write_text("")
    with pytest.raises(ValueError, match=r"must be one of .parquet, .jsonl, .json, .csv"):
        local_files(MATH_500, tmp_path / "rows.txt", only_one=True)
    with pytest.raises(ValueError, match="one file"):
        local_files(MATH_500, write_jsonl(tmp_path / "rows.jsonl", ROWS), only_one=False)
