"""The built wheel beside a verl that knows nothing of this project: its entry point is the only contact."""

import subprocess
import sys
import sysconfig
import tomllib
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

USE_THE_MODE = """
import sys, verl
from verl.workers.config import FSDPActorConfig, FSDPEngineConfig, OptimizerConfig
config = FSDPActorConfig(strategy="fsdp2", rollout_n=4, ppo_micro_batch_size_per_gpu=1, loss_agg_mode="balanced",
                         optim=OptimizerConfig(lr=1.0), fsdp_config=FSDPEngineConfig())
print(config.loss_agg_mode, sys.modules["balanced_agg"].__file__)
"""


def test_no_package_is_forgotten():
    """Packages are listed by hand, because three of them lie at the top of the checkout."""
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    found = {".".join(file.relative_to(ROOT).parent.parts) for file in (ROOT / "balanced_agg").rglob("*.py")}
    assert set(listed) == found | {f"balanced_agg.{name}" for name in ("configs", "data", "recipes")}


@pytest.mark.slow
def test_the_wheel_works_beside_a_bare_verl(tmp_path):
    def pip(*arguments: str) -> None:
        subprocess.run([sys.executable, "-m", "pip", "--quiet", *arguments], check=True, cwd=tmp_path)

    def use_the_mode() -> subprocess.CompletedProcess:
        return subprocess.run([python, "-c", USE_THE_MODE], capture_output=True, text=True, cwd=tmp_path)

    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(tmp_path), str(ROOT))
    (wheel,) = tmp_path.glob("balanced_agg-*.whl")

    # A new environment that sees this one's packages as plain files: an editable install does not reach through.
    venv.create(tmp_path / "venv", with_pip=False)
    python = tmp_path / "venv/bin/python"
    (site,) = (tmp_path / "venv").glob("lib/python*/site-packages")
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib"))

    without = use_the_mode()
    assert "Invalid loss_agg_mode: balanced" in without.stderr
    pip("install", "--no-deps", "--target", str(site), str(wheel))
    done = use_the_mode()
    assert done.stdout.split() == ["balanced", str(site / "balanced_agg/__init__.py")], done.stderr
