"""The gradient through verl's own FSDP2 engine, of small models of the recipes' two architectures."""

import json

import pytest

BOUND = {"fp32": 2e-6, "bf16": 2e-2}  # of a relative deviation
CASES = 2 * 2 * 2  # models, layouts, modes


@pytest.fixture
def errors(fresh_process):
    """Relative deviations from the float64 reference, by precision."""

    def errors(*arguments: str, **variables: str) -> dict[str, list[float]]:
        code = "from tests.plugin.loss.engine_gradient import main; main()"
        done = fresh_process(code, *arguments, **variables)
        assert done.returncode == 0, done.stderr[-3000:]
        rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        return {precision: [row["error"] for row in rows if row["precision"] == precision] for precision in BOUND}

    return errors


def test_gradients_are_those_of_the_reference(errors):
    found = errors(VERL_PLATFORM="cpu")["fp32"]
    assert len(found) == CASES
    assert max(found) < BOUND["fp32"]


def test_counts_of_micro_batches_would_be_found(errors):
    assert min(errors("--local-counts", VERL_PLATFORM="cpu")["fp32"]) > 0.1


@pytest.mark.gpu
def test_gradients_on_a_gpu_are_those_of_the_reference(errors):
    found = errors()
    assert {precision: len(values) for precision, values in found.items()} == dict.fromkeys(BOUND, CASES)
    for precision, bound in BOUND.items():
        assert max(found[precision]) < bound
