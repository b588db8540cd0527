"""Nothing that a validation or a run left behind ends in a traceback: one line names the file, and samples stay."""

import json

import pytest
from typer.testing import CliRunner

from balanced_agg.commands.cli import app
from balanced_agg.commands.evaluate.recorded import recorded_run
from balanced_agg.commands.evaluate.samples import asked, read_samples
from balanced_agg.commands.evaluate.table import markdown, remarks, summarize
from tests.commands.evaluate.conftest import SAMPLE
from tests.composed import write_rows


def table_only(evaluated):
    arguments = ["evaluate", str(evaluated.with_name("model")), "--recipe", "arithmetic", "--table-only"]
    return CliRunner().invoke(app, arguments)


def refused(evaluated, *says: str) -> None:
    samples = {path: path.read_bytes() for path in evaluated.glob("samples/*.jsonl") if path.is_file()}
    done = table_only(evaluated)
    assert done.exit_code == 1 and isinstance(done.exception, SystemExit), done.exception
    assert done.stderr.count("\n") == 1 and all(text in done.stderr for text in says), done.stderr
    assert "the samples stay in" in done.stderr
    assert {path: path.read_bytes() for path in samples} == samples
    assert not (evaluated / "evaluation.json").exists()


def changed(**values: object) -> bytes:
    return json.dumps(SAMPLE | values).encode()


DUMPS = {
    "half a line": (changed()[:30], "line 2 is no sample"),
    "invalid UTF-8": (b'{"uid": "\xff"}', "line 2 is no sample"),
    "zeros": (b"\0" * 100, "line 2 is no sample"),
    "thousands of brackets": (b"[" * 100_000, "line 2 is no sample"),
    "a list": (b"[1]", "line 2 is no sample"),
    "no uid": (changed(uid=None), "line 2 is no sample"),
    "a uid of another kind": (changed(uid="prompt"), "line 2 is no sample"),
    "no score at all": (changed(acc=None, score=None), "line 2: acc is None"),
    "a score in words": (changed(acc="right"), "line 2: acc is 'right'"),
    "a score of 400 digits": (changed(acc=10**400), "line 2: acc is 1000"),
    "a score that is not finite": (changed(acc=float("nan")), "line 2: acc is nan"),
    "no length": (changed(response_tokens=None), "line 2: response_tokens is None"),
    "an unknown source": (changed(data_source="astrology"), "astrology"),
    "no source": (changed(data_source=None), "None"),
    "a source of another kind": (changed(data_source=["a"]), "['a']"),
    "a problem more than were asked": (changed(uid="q_0_0"), "2 problems of arithmetic, but 1 were asked"),
}


@pytest.mark.parametrize(("line", "said"), DUMPS.values(), ids=DUMPS.keys())
def test_a_line_that_is_no_sample_is_named_and_no_table_is_made(line, said, evaluated):
    with (evaluated / "samples/0.jsonl").open("ab") as file:
        file.write(line + b"\n")
    refused(evaluated, "0.jsonl", said)


def test_a_dump_that_is_a_directory_is_named(evaluated):
    (evaluated / "samples/0.jsonl").unlink()
    (evaluated / "samples/0.jsonl").mkdir()
    refused(evaluated, "0.jsonl")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"data: {val_files: [",
        b"data: ${x",
        b"data: \xff",
        b"[1]",
        b"data: 3\n",
        b"data: {val_files: ${oc.env:NO}}",
    ],
)
def test_a_config_that_is_damaged_is_named(content, evaluated):
    (evaluated / ".hydra/config.yaml").write_bytes(content)
    refused(evaluated, ".hydra/config.yaml")


def test_a_config_that_is_missing_is_named(evaluated):
    (evaluated / ".hydra/config.yaml").unlink()
    refused(evaluated, ".hydra/config.yaml")


@pytest.mark.parametrize("spoil", ["cut", "missing", "a directory", "no data source", "no responses", "no number"])
def test_a_file_of_problems_that_cannot_be_read_is_named(spoil, evaluated):
    file = evaluated.with_name("validation.parquet")
    if spoil == "cut":
        file.write_bytes(file.read_bytes()[:100])
    elif spoil == "no data source":
        write_rows(file, rows=1, data_source=None)
    elif spoil == "no responses":
        write_rows(file, rows=1, __rollout_n__=0)
    elif spoil == "no number":
        write_rows(file, rows=1, __rollout_n__="four")
    else:
        file.unlink()
        if spoil == "a directory":
            file.mkdir()
    refused(evaluated, "validation.parquet")


@pytest.mark.parametrize("name", ["hydra.yaml", "overrides.yaml"])
@pytest.mark.parametrize(
    "content",
    [None, b"a: [", *(pytest.param(it, marks=pytest.mark.evidence) for it in (b"", b"a: !x y", b"\xff", b"3"))],
)
def test_a_record_of_the_run_that_is_damaged_is_named_with_the_option_that_stands_in(name, content, tmp_path):
    hydra = tmp_path / ".hydra"
    hydra.mkdir()
    (hydra / "hydra.yaml").write_text("hydra: {job: {config_name: arithmetic}}\n")
    (hydra / "overrides.yaml").write_text("[aggregation=token]\n")
    actor = tmp_path / "checkpoints/global_step_20/actor"
    actor.mkdir(parents=True)
    assert recorded_run(actor) == ("arithmetic", ["aggregation=token"])
    (actor / "model_world_size_1_rank_0.pt").touch()
    (hydra / name).unlink()
    if content is None:
        (hydra / name).mkdir()
    else:
        (hydra / name).write_bytes(content)
    done = CliRunner().invoke(app, ["evaluate", str(actor.parent)])
    if name == "hydra.yaml" and content in (b"", b"3"):  # a record that names no recipe
        assert done.exit_code == 2 and "--recipe" in done.stderr
    else:
        assert done.exit_code == 2 and f"{hydra / name} cannot be read" in done.stderr and "--recipe" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_reward_function_without_acc_has_its_score_for_it_and_no_pass_at_k(tmp_path):
    write_rows(tmp_path / "mine.parquet", rows=1, data_source="mine")
    own = {name: SAMPLE[name] for name in ("response_tokens", "truncated")} | {"data_source": "mine"}
    lines = [json.dumps(own | {"uid": f"p_{n}_0", "score": score}) for n, score in enumerate((0.5, -2.0, 3.0))]
    (tmp_path / "0.jsonl").write_text("\n".join(lines) + "\n\n")
    benchmarks = read_samples(tmp_path / "0.jsonl", asked([tmp_path / "mine.parquet"], 4))
    summary = summarize(benchmarks)
    row = summary["benchmarks"]["mine"]
    assert row["mean@k"]["value"] == 1.5 / 4 and row["missing"] == 1
    assert {row[f"pass@{j}"] for j in (1, 2, 4)} == {None}
    assert "mine: some scores are neither 0 nor 1, so that there is no pass@k." in remarks(summary)
    both = summarize([*benchmarks, *benchmarks])
    assert both["mean"]["pass@k"] is None and both["mean"]["mean@k"]["value"] == 1.5 / 4
    assert "| - |" in markdown(summary, "x")


def test_a_benchmark_may_have_any_name(evaluated):
    name = "a|b$c$ [red]\n<b>"
    write_rows(evaluated.with_name("validation.parquet"), rows=1, data_source=name)
    (evaluated / "samples/0.jsonl").write_bytes(changed(data_source=name))
    assert table_only(evaluated).exit_code == 0
    assert json.loads((evaluated / "evaluation.json").read_text())["benchmarks"].keys() == {name}
