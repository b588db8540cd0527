"""The README's first command does what the README says."""

import json
import re
import subprocess

import pytest

from tests.end_to_end.launch import DEADLINE, ROOT

pytestmark = pytest.mark.slow


def test_the_quickstart_raises_validation_accuracy_by_15_points_and_says_so():
    command = ["bash", str(ROOT / "scripts/quickstart.sh")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == "", "import warnings or progress bars"

    records = map(json.loads, (ROOT / "outputs/quickstart/metrics.jsonl").read_text().splitlines())
    accuracy = {
        r["step"]: r["data"]["val-core/arithmetic/acc/mean@2"]
        for r in records
        if "val-core/arithmetic/acc/mean@2" in r["data"]
    }
    assert sorted(accuracy) == [0, 10, 20]
    assert accuracy[20] - accuracy[0] >= 0.15
    first, last, points = re.search(r"accuracy ([\d.]+)% -> ([\d.]+)% \(([+-][\d.]+) points\)", done.stdout).groups()
    assert float(first) == pytest.approx(100 * accuracy[0], abs=0.06)
    assert float(last) == pytest.approx(100 * accuracy[20], abs=0.06)
    assert float(points) == pytest.approx(100 * (accuracy[20] - accuracy[0]), abs=0.06)
    assert "20 steps in" in done.stdout
    _, _, next_steps = done.stdout.partition("what next:")
    assert "aggregation=token" in next_steps and "sweep.sh" in next_steps and "your own verl run" in next_steps
