"""The report and the pictures in docs/study are those of the record there."""

from io import BytesIO

import numpy as np
from matplotlib.image import imread

from balanced_agg.commands.study.record import read_record
from balanced_agg.commands.study.report import files
from tests.composed import ROOT

COMMITTED = ROOT / "docs/study"


def test_the_committed_report_and_its_pictures_are_those_of_the_committed_record():
    record = read_record(COMMITTED)
    assert record.runs
    drawn = files(record)
    assert drawn.pop("report.md") == (COMMITTED / "report.md").read_bytes()
    assert {file.name for file in COMMITTED.glob("*.png")} == drawn.keys()
    for name, png in drawn.items():
        ours, theirs = imread(BytesIO(png)), imread(COMMITTED / name)
        assert ours.shape == theirs.shape and np.abs(ours - theirs).mean() < 0.01
