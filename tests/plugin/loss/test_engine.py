"""The gradient through verl's own FSDP2 engine, of small models of the recipes' two architectures."""

import json

import pytest

from balanced_agg.loss.rules import RULES
from tests.minibatch import OUR_MODES

BOUND = {"fp32": 2e-6, "bf16": 2e-2}  # of a relative deviation from the float64 reference
CASES = 2 * 2 * 2  # models, layouts, modes


def rows_of(done) -> list[dict]:
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


@pytest.mark.parametrize(
    ("platform", "precisions"),
    [
        pytest.param("cpu", ["fp32"], marks=pytest.mark.slow),
        pytest.param("", ["fp32", "bf16"], marks=pytest.mark.gpu),
    ],
)
def test_gradients_are_those_of_the_reference_and_counts_of_micro_batches_would_be_found(
    fresh_process, platform, precisions
):
    code = "from tests.plugin.loss.engine_gradient import main; main()"
    done = fresh_process(code, **({"VERL_PLATFORM": platform} if platform else {}))
    rows = rows_of(done)
    for precision in precisions:
        found = [row for row in rows if row["precision"] == precision]
        assert len(found) == CASES
        assert max(row["error"] for row in found) < BOUND[precision]
        assert min(row["error_with_local_counts"] for row in found) > 0.1


@pytest.mark.parametrize(
    "rules",
    [pytest.param(2, marks=pytest.mark.slow), pytest.param(len(RULES), marks=pytest.mark.evidence)],
)
def test_gradients_are_those_of_the_reference_in_every_layout_of_a_gpu_recipe_and_faults_would_be_found(
    fresh_process, rules
):
    code = f"from tests.plugin.loss.engine_variants import main; main(every_rule={rules > 2})"
    rows = rows_of(fresh_process(code, VERL_PLATFORM="cpu"))
    right, wrong = ([row["error"] for row in rows if bool(row["fault"]) == faulty] for faulty in (False, True))
    assert len(right) == (6 * 2 + 1) * rules  # variants of both models, and fused kernels of the tied one
    assert len(wrong) == 2 * len(OUR_MODES)
    assert max(right) < BOUND["fp32"]
    assert min(wrong) > 0.1


@pytest.mark.evidence
def test_fused_kernels_of_a_head_of_its_own_still_crash_under_fsdp2(fresh_process):
    # Where they do not, the refusal can go: balanced_agg/plugin/checks/model.py.
    code = """
import tempfile
from pathlib import Path
from tests.plugin.loss.engine_variants import UNTIED, Variant, compare
with tempfile.TemporaryDirectory() as folder:
    list(compare(Path(folder), ["balanced"], [Variant(1, fused_kernels=True, models=(UNTIED,))]))
"""
    done = fresh_process(code, VERL_PLATFORM="cpu")
    assert "mixed torch.Tensor and DTensor" in done.stderr
