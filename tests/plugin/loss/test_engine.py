"""The gradient through verl's own FSDP2 engine, of small models of the recipes' two architectures."""

import json

import pytest

BOUND = {"fp32": 2e-6, "bf16": 2e-2}  # of a relative deviation from the float64 reference
CASES = 2 * 2 * 2  # models, layouts, modes


@pytest.mark.parametrize(
    ("platform", "precisions"), [("cpu", ["fp32"]), pytest.param("", ["fp32", "bf16"], marks=pytest.mark.gpu)]
)
def test_gradients_are_those_of_the_reference_and_counts_of_micro_batches_would_be_found(
    fresh_process, platform, precisions
):
    code = "from tests.plugin.loss.engine_gradient import main; main()"
    done = fresh_process(code, **({"VERL_PLATFORM": platform} if platform else {}))
    assert done.returncode == 0, done.stderr[-3000:]
    rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    for precision in precisions:
        found = [row for row in rows if row["precision"] == precision]
        assert len(found) == CASES
        assert max(row["error"] for row in found) < BOUND[precision]
        assert min(row["error_with_local_counts"] for row in found) > 0.1
