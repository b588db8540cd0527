"""Nothing in a dump ends in a traceback: rows that cannot be used are counted, files that cannot be read are named."""

import json

import pytest
from typer.testing import CliRunner

from balanced_agg.arithmetic.tokenizer import build_tokenizer
from balanced_agg.commands.cli import app
from tests.commands.inspect.rollouts import rows_of, write_jsonl, write_parquet

GOOD = len(rows_of())
DIGITS = b"9" * 400


def inspect(*arguments):
    return CliRunner().invoke(app, ["inspect", *map(str, arguments)])


def row(**values: object) -> bytes:
    return json.dumps(rows_of()[0] | {"uid": "c_0_0"} | values).encode()


def with_value(name: str, value: bytes) -> bytes:
    """A row in which this is written behind a name."""
    return row(**{name: "HERE"}).replace(b'"HERE"', value)


# A line that is added to a good dump -> what is said of it.
LEFT_OUT = {
    "a score of 400 digits": (with_value("score", DIGITS), "score is not finite"),
    "an infinite score": (with_value("score", b"Infinity"), "score is not finite"),
    "no score": (row(score=None), "no score"),
    "a score in words": (row(score="high"), "score is no number"),
    "several scores": (row(score=[1]), "score is no number"),
    "a length of 400 digits": (with_value("response_tokens", DIGITS), "no length"),
    "a length that is no number": (with_value("response_tokens", b"NaN"), "no length"),
    "a negative length": (row(response_tokens=-1), "no length"),
    "a length that is absurd": (row(response_tokens=1e100), "no length"),
    "a length in words": (row(response_tokens="long"), "no length"),
    "no group": (row(uid=None), "no uid"),
    "half a line": (row()[:20], "no JSON object"),
    "a list": (b"[1, 2]", "no JSON object"),
    "thousands of brackets": (b"[" * 100_000, "no JSON object"),
    "a number of 5000 digits": (with_value("score", b"9" * 5000), "no JSON object"),
    "invalid UTF-8": (row().replace(b"prompt", b"\xff\xfe"), "no JSON object"),
    "zeros": (b"\0" * 100, "no JSON object"),
}
USED = {
    "a group of another kind": row(uid=["c", {"d": 1}]),
    "half of a surrogate pair": with_value("uid", b'"\\ud800_0_0"'),
    "a column with half of one": with_value("uid", b'"c_0_0", "\\ud800": 1'),
    "a score that is true": row(score=True),
    "infinity in a column that is not read": with_value("acc", b"Infinity"),
}


@pytest.mark.parametrize(("line", "said"), LEFT_OUT.values(), ids=LEFT_OUT.keys())
def test_a_line_that_cannot_be_used_is_counted_with_the_reason(line, said, tmp_path):
    write_jsonl(tmp_path / "1.jsonl", rows_of())
    with (tmp_path / "1.jsonl").open("ab") as file:
        file.write(line + b"\n")
    done = inspect(tmp_path, "--json")
    assert done.exit_code == 0, done.exception
    found = json.loads(done.stdout)
    ((reason, rows),) = found["left_out"].items()
    assert said in reason and rows == {"rows": 1, "first": f"{tmp_path / '1.jsonl'}:{GOOD + 1}"}
    assert found["steps"][0]["responses"] == GOOD


@pytest.mark.parametrize("line", USED.values(), ids=USED.keys())
def test_a_line_that_is_odd_elsewhere_is_used(line, tmp_path):
    write_jsonl(tmp_path / "1.jsonl", rows_of())
    with (tmp_path / "1.jsonl").open("ab") as file:
        file.write(line + b"\n")
    done = inspect(tmp_path, "--json")
    assert done.exit_code == 0, done.exception
    assert json.loads(done.stdout)["steps"][0]["responses"] == GOOD + 1
    assert inspect(tmp_path).exit_code == 0


@pytest.mark.parametrize("step", [b"Infinity", b"NaN", DIGITS, b"1e300", b'"one"', b"1.5", b"null"])
def test_a_step_that_is_none_is_no_step(step, tmp_path):
    write_jsonl(tmp_path / "rollouts.jsonl", rows_of())
    with (tmp_path / "rollouts.jsonl").open("ab") as file:
        file.write(with_value("step", step) + b"\n")
    done = inspect(tmp_path, "--json")
    assert done.exit_code == 0, done.exception
    assert json.loads(done.stdout)["left_out"]["no step"]["rows"] == 1


@pytest.mark.parametrize(("column", "largest"), [("score", 1e100), ("response_tokens", 2**53 - 1)])
def test_the_largest_scores_and_lengths_that_are_not_left_out_are_drawn(column, largest, tmp_path):
    write_jsonl(tmp_path / "1.jsonl", [row | {column: largest if n else 1.0} for n, row in enumerate(rows_of())])
    assert inspect(tmp_path, "--out", tmp_path / "a.png").exit_code == 0


@pytest.mark.parametrize("name", ["a$b$.jsonl", r"$\frac{.jsonl", f"{'9' * 200}.jsonl", "²³.jsonl", "[red]x.jsonl"])
def test_a_file_may_have_any_name(name, tmp_path):
    for file in (name, "other.jsonl"):
        write_jsonl(tmp_path / "dump" / file, [{k: v for k, v in row.items() if k != "step"} for row in rows_of()])
    done = inspect(tmp_path / "dump", "--out", tmp_path / "a.png")
    assert done.exit_code == 0, done.exception
    assert (tmp_path / "a.png").stat().st_size


@pytest.mark.parametrize("spoil", ["cut", "empty", "text", "overwritten", "of no rows"])
def test_a_parquet_file_that_cannot_be_read_is_named_in_one_line(spoil, tmp_path):
    file = write_parquet(tmp_path / "1.parquet", rows_of())
    content = file.read_bytes()
    footer = int.from_bytes(content[-8:-4], "little") + 8
    spoilt = {
        "cut": content[: len(content) // 2],
        "empty": b"",
        "text": b"hello",
        "overwritten": b"PAR1" + b"\xff" * (len(content) - footer - 4) + content[-footer:],
    }
    if spoil == "of no rows":
        write_parquet(file, rows_of()[:0])
    else:
        file.write_bytes(spoilt[spoil])
    done = inspect(file)
    assert done.exit_code == 2 and done.stderr.count("\n") == 1
    assert spoil == "of no rows" or "1.parquet is no complete parquet file" in done.stderr


@pytest.mark.parametrize("spoil", ["a directory", "no permission", "gone"])
def test_a_file_that_cannot_be_opened_is_named_in_one_line(spoil, tmp_path, monkeypatch):
    file = tmp_path / "1.jsonl"
    if spoil == "a directory":
        file.mkdir()
    elif spoil == "no permission":
        write_jsonl(file, rows_of())
        opened = type(file).open

        def refuse(path, *arguments, **options):
            if path.name == file.name:
                raise PermissionError(13, "Permission denied", str(path))
            return opened(path, *arguments, **options)

        monkeypatch.setattr(type(file), "open", refuse)
    done = inspect(file)
    assert done.exit_code in (1, 2) and done.stderr.count("\n") == 1 and "1.jsonl" in done.stderr


def test_a_torn_tokenizer_is_named_in_one_line_and_texts_may_hold_anything(tmp_path):
    build_tokenizer().save_pretrained(tmp_path / "tokenizer")
    write_jsonl(tmp_path / "1.jsonl", [row | {"output": "1\ud800\0"} for row in rows_of()])
    assert inspect(tmp_path / "1.jsonl", "--tokenizer", tmp_path / "tokenizer").exit_code == 0
    whole = (tmp_path / "tokenizer/tokenizer.json").read_text()
    (tmp_path / "tokenizer/tokenizer.json").write_text(whole[: len(whole) // 2])
    done = inspect(tmp_path / "1.jsonl", "--tokenizer", tmp_path / "tokenizer")
    assert done.exit_code == 2 and done.stderr.startswith("balanced-agg inspect: --tokenizer")
