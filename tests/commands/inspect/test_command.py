"""`balanced-agg inspect` as a user meets it."""

import json
import subprocess
import sys

import matplotlib.image
import pytest
from typer.testing import CliRunner

from balanced_agg.arithmetic.tokenizer import build_tokenizer
from balanced_agg.commands.cli import app
from tests.commands.inspect.rollouts import rows_of, write_jsonl, write_parquet


def inspect(*arguments):
    return CliRunner().invoke(app, ["inspect", *map(str, arguments)])


@pytest.fixture
def dump(tmp_path):
    """Two steps without lengths, as verl leaves them; the last line of the second is incomplete."""
    for step in (9, 10):
        rows = [{k: v for k, v in row.items() if k != "response_tokens"} for row in rows_of(step=step)]
        path = write_jsonl(tmp_path / f"dump/{step}.jsonl", rows)
    with path.open("a") as file:
        file.write('{"input": "pro')
    return path.parent


def test_steps_rules_and_the_answer_are_printed(dump):
    result = inspect(dump, "--length-in", "characters")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert "Responses and their lengths in characters" in lines
    assert ["9", "6", "2", "50%", "0.53", "20", "60", "-1.00"] in [line.split() for line in lines]
    assert ["9", "50.0%", "25.0%", "25.0%", "50.0%", "+0.2887"] in [line.split() for line in lines]
    assert any(line.startswith("Under group-token-mean the positive responses get 25.0 %") for line in lines)
    assert any("characters of the text, not tokens" in line for line in lines)
    assert f"Left out: 1 (incomplete last line; first {dump / '10.jsonl'}:7)" in lines


def test_json_is_alone_on_stdout_and_holds_every_measure(dump, tmp_path):
    result = inspect(dump, "--length-in", "characters", "--json", "--out", tmp_path / "picture.png")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert [step["step"] for step in found["steps"]] == [9, 10]
    assert found["steps"][0]["metrics"]["token/positive_share"] == pytest.approx(0.25)
    assert found["summary"]["token"]["positive_share"] == pytest.approx(0.25)
    assert found["left_out"]["incomplete last line"]["rows"] == 1
    assert len(found["answer"]) == 3
    assert found["lengths"].startswith("characters")


def test_a_tokenizer_gives_the_lengths_of_the_column(dump, tmp_path):
    build_tokenizer().save_pretrained(tmp_path / "tokenizer")
    # The text has one token a character; the tokenizer adds the end of sequence to each.
    rows = [row | {"response_tokens": row["response_tokens"] + 1} for step in (9, 10) for row in rows_of(step=step)]
    by_column = inspect(write_parquet(tmp_path / "rollouts.parquet", rows), "--json")
    by_tokenizer = inspect(dump, "--tokenizer", tmp_path / "tokenizer", "--json")
    assert json.loads(by_tokenizer.stdout)["steps"] == json.loads(by_column.stdout)["steps"]


def test_no_std_changes_the_size_of_advantages_alone(dump):
    with_std, without = (
        json.loads(inspect(dump, "--length-in", "characters", "--json", *options).stdout)["steps"][0]["metrics"]
        for options in ((), ("--no-std",))
    )
    assert without["token/drift"] == pytest.approx(0.5 * 80 / 40 / 6)
    assert without["token/drift"] < with_std["token/drift"]
    assert without["length_gap"] == with_std["length_gap"]


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("scores", ["mixed", "equal"])
def test_a_picture_is_drawn_of_one_step_and_of_many_with_or_without_gradient(tmp_path, steps, scores):
    for step in range(1, steps + 1):
        rows = rows_of(step=step)
        write_jsonl(tmp_path / f"{step}.jsonl", rows if scores == "mixed" else [row | {"score": 1.0} for row in rows])
    result = inspect(tmp_path, "--out", tmp_path / "new/picture.png")
    assert result.exit_code == 0, result.output
    pixels = matplotlib.image.imread(tmp_path / "new/picture.png")
    assert pixels.std() > 0.05  # not blank


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "--tokenizer PATH-OR-HUB-ID"),
        (("--length-in", "characters", "--out", "picture.pdf"), "--out picture.pdf is no .png file"),
        (("--length-in", "characters", "--group-field", "nope"), "a column nope; they have gts, input"),
        (("--length-in", "characters", "--advantage-field", "nope"), "a column nope"),
        (("--length-in", "characters", "--advantage-field", "score", "--no-std"), "exclude each other"),
    ],
)
def test_what_cannot_be_used_is_a_usage_error_that_says_what_to_do(dump, options, message):
    result = inspect(dump, *options)
    assert result.exit_code == 2
    assert message in result.stderr
    assert not result.stdout


def test_rollouts_without_a_usable_row_are_an_error_that_says_why(tmp_path):
    write_jsonl(tmp_path / "1.jsonl", [row | {"score": None} for row in rows_of()])
    result = inspect(tmp_path)
    assert result.exit_code == 2
    assert "no row" in result.stderr and "no score" in result.stderr
    assert not result.stdout


def test_a_picture_that_cannot_be_written_is_a_failure(tmp_path):
    (tmp_path / "file").write_text("")
    result = inspect(write_jsonl(tmp_path / "1.jsonl", rows_of()), "--out", tmp_path / "file/picture.png")
    assert result.exit_code == 1
    assert "balanced-agg inspect:" in result.stderr


def test_help_and_the_package_load_neither_torch_nor_verl():
    code = (
        "import sys; from typer.testing import CliRunner; from balanced_agg.commands.cli import app; "
        "assert CliRunner().invoke(app, ['inspect', '--help']).exit_code == 0; "
        "print(sorted({'torch', 'verl', 'matplotlib', 'pyarrow', 'transformers'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"
