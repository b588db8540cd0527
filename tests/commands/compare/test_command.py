"""`balanced-agg compare` prints tables, writes a report that needs nothing beside it, and names what it cannot read."""

import json
import re
from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from balanced_agg.commands.cli import app
from balanced_agg.runs import wandb_log
from tests.runs.made_runs import ACCURACY, make_run, write_config, write_log


def compare(*arguments):
    return CliRunner().invoke(app, ["compare", *map(str, arguments)])


def two_modes(tmp_path):
    better, worse = {0: 0.5, 2: 1.0, 4: 0.75}, {0: 0.5, 2: 0.75, 4: 0.625}
    return [
        make_run(tmp_path, mode, seed, accuracies)
        for mode, accuracies in (("balanced", better), ("group-token-mean", worse))
        for seed in (0, 1)
    ]


def test_the_table_has_a_row_for_each_mode_and_marks_the_best(tmp_path):
    done = compare(*two_modes(tmp_path))
    assert done.exit_code == 0
    lines = [line.split() for line in done.stdout.splitlines()]
    zero = ["±", "0.0"]
    row = ["arithmetic", "mean@2", "balanced", "2", "100.0", *zero, "2", "75.0", "±", "0.0*", "25.0", *zero]
    assert row in [line[: len(row)] for line in lines]
    row = ["group-token-mean", "2", "75.0", *zero, "2", "62.5", *zero, "12.5", *zero]
    assert row in [line[: len(row)] for line in lines]


def test_nothing_is_marked_where_there_is_nothing_to_choose_from(tmp_path):
    assert "75.0*" not in compare(make_run(tmp_path)).stdout


def test_json_stands_alone_on_stdout_and_has_what_the_tables_have(tmp_path):
    done = compare(*two_modes(tmp_path), "--json", "--out", tmp_path / "out")
    summary = json.loads(done.stdout)
    balanced, token = summary["settings"][0]["groups"]
    assert balanced["benchmarks"]["arithmetic mean@2"]["drop"]["mean"] == 0.25
    assert token["final"]["response_length"]["mean"] == 40
    assert len(summary["runs"]) == 4 and summary["runs"][0]["peak"] == 1.0
    assert any("length gap" in remark and "no run logged it" in remark for remark in summary["remarks"])


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """Two settings: the pictures have a panel for each; one run is cut short, one name must be escaped."""
    root = tmp_path_factory.mktemp("compared")
    paths = two_modes(root)
    paths.append(make_run(root, seed=2, steps=3, accuracies={0: 0.5, 2: 0.5}))
    records = [(0, {ACCURACY: 0.5}), (1, {"critic/score/mean": 1}), (2, {ACCURACY: 0.75, "critic/score/mean": 1})]
    paths.append(write_log(root / "<b>&-balanced-seed0.jsonl", records))
    out = root / "out"
    done = compare(*paths, "--out", out)
    assert done.exit_code == 0, done.output
    return out


def test_a_picture_is_written_for_each_quantity_that_was_logged(report):
    assert {path.name for path in report.iterdir()} == {
        "report.html",
        "comparison.png",
        "validation_accuracy.png",
        "reward.png",
        "entropy.png",
        "response_length.png",
        "gradient_norm.png",
    }


def test_pictures_show_something_and_the_overview_is_1600_pixels_wide(report):
    for path in report.glob("*.png"):
        picture = Image.open(BytesIO(path.read_bytes()))
        assert np.asarray(picture.convert("L")).std() > 5, path.name
    assert Image.open(report / "comparison.png").width == 1600


def test_the_report_needs_nothing_beside_it(report):
    text = (report / "report.html").read_text()
    assert "<script" not in text and "http" not in text
    sources = re.findall(r'(?:src|href)="([^"]{30})', text)
    assert len(sources) == 5 and all(source.startswith("data:image/png;base64,") for source in sources)


def test_the_report_escapes_what_it_shows(report):
    text = (report / "report.html").read_text()
    assert "<b>" not in text and "&lt;b&gt;&amp;" in text


def test_the_report_names_paths_and_runs_that_were_cut_short(report):
    text = (report / "report.html").read_text()
    assert str(report.parent / "arithmetic-balanced-seed0") in text
    assert "arithmetic-balanced-seed2 ended at step 3 of 4" in text and "3†" in text


def test_what_cannot_be_compared_exits_with_2_and_says_which(tmp_path):
    done = compare(tmp_path / "missing")
    assert done.exit_code == 2 and "missing does not exist" in done.stderr and done.stdout == ""


def test_a_failure_of_wandb_exits_with_1_in_one_line(monkeypatch):
    def refuse(path, api=None):
        raise wandb_log.WandbError("wandb could not read me/project: no key")

    monkeypatch.setattr("balanced_agg.runs.run.read_online", refuse)
    done = compare("me/project")
    assert done.exit_code == 1 and done.stderr == "balanced-agg compare: wandb could not read me/project: no key\n"


def test_several_benchmarks_have_a_picture_each_and_one_of_their_mean(tmp_path):
    both = {"val-core/openai/gsm8k/acc/mean@4": 0.5, "val-core/aime/acc/mean@32": 0.25}
    write_log(tmp_path / "run/metrics.jsonl", [(0, both), (1, both)])
    write_config(tmp_path / "run", "balanced", 0, total_steps=1)
    compare(tmp_path / "run", "--out", tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").glob("validation_accuracy*")} == {
        "validation_accuracy.png",
        "validation_accuracy-aime_mean@32.png",
        "validation_accuracy-openai_gsm8k_mean@4.png",
    }
