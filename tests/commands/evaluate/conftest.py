"""What a validation leaves behind."""

import json

import pytest
from omegaconf import OmegaConf

from tests.composed import write_rows

SAMPLE = {
    "uid": "p_0_0",
    "data_source": "arithmetic",
    "score": 1.0,
    "acc": 1.0,
    "response_tokens": 9.0,
    "truncated": 0.0,
    "grader_failed": 0.0,
}


@pytest.fixture
def evaluated(tmp_path):
    """A model directory, and beside it what a validation of one problem has left."""
    results = tmp_path / "model-evaluation"
    (tmp_path / "model").mkdir()
    (tmp_path / "model/config.json").touch()
    (results / "samples").mkdir(parents=True)
    (results / "samples/0.jsonl").write_text(json.dumps(SAMPLE) + "\n")
    write_rows(tmp_path / "validation.parquet", rows=1)
    sampling = {"n": 1, "do_sample": True, "temperature": 1.0, "top_p": 1.0, "top_k": -1}
    data = {"val_files": f"{tmp_path}/validation.parquet", "val_max_samples": -1, "max_response_length": 80}
    config = {"data": data, "actor_rollout_ref": {"rollout": {"val_kwargs": sampling}}, "run": {"seed": 1}}
    (results / ".hydra").mkdir()
    OmegaConf.save(OmegaConf.create(config), results / ".hydra/config.yaml")
    return results
