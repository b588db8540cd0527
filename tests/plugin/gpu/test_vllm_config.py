"""vLLM for GPUs takes the rollout of each recipe as it is written, on each hardware, without a GPU."""

import json
import os
import subprocess
from itertools import product
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from balanced_agg.arithmetic.tokenizer import build_tokenizer
from balanced_agg.commands.recipes import RECIPES
from tests.composed import ROOT, compose_recipe
from tests.plugin.gpu.models import SHAPES, write_shape

PYTHON = Path(os.environ.get("BALANCED_AGG_GPU_PYTHON", ROOT / ".venv-gpu/bin/python"))
HARDWARE = ("1gpu", "8gpu", "4x8gpu")


def rollouts(folder: Path) -> list[dict]:
    """The sections `rollout` and `model` of each recipe with a published model on each hardware, equal ones once."""
    found = []
    for recipe, hardware in product(sorted(file.stem for file in RECIPES.glob("*.yaml")), HARDWARE):
        config = compose_recipe(recipe, f"hardware={hardware}")
        name = config.actor_rollout_ref.model.path
        if name in SHAPES:
            config.actor_rollout_ref.model.path = str(write_shape(name, folder / name))
            build_tokenizer().save_pretrained(folder / name)
            sections = OmegaConf.to_container(config.actor_rollout_ref, resolve=True)
            case = {key: sections[key] for key in ("rollout", "model")}
            found += [case] if case not in found else []
    return found


@pytest.mark.evidence
def test_every_published_model_of_a_recipe_has_a_shape():
    used = {compose_recipe(file.stem).actor_rollout_ref.model.path for file in RECIPES.glob("*.yaml")}
    assert {name for name in used if name.count("/") == 1} == SHAPES.keys()


@pytest.mark.evidence
@pytest.mark.skipif(not PYTHON.exists(), reason=f"no {PYTHON}: bash scripts/setup.sh --gpu builds it")
def test_vllm_takes_the_rollout_of_each_recipe_as_it_is_written(tmp_path):
    cases = rollouts(tmp_path)
    (tmp_path / "cases.json").write_text(json.dumps(cases))
    command = [PYTHON, "-m", "tests.plugin.gpu.vllm_config", tmp_path]
    environment = {name: value for name, value in os.environ.items() if name != "VERL_PLATFORM"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"max_model_len')]
    assert len(found) == len(cases) >= len(SHAPES)
    for case, values in zip(cases, found, strict=True):
        asked = {key: case["rollout"][key] for key in values}
        # verl takes the model's positions for a window that is not set.
        positions = json.loads(Path(case["model"]["path"], "config.json").read_text())["max_position_embeddings"]
        positions = case["model"]["override_config"].get("max_position_embeddings", positions)
        assert values == asked | {"max_model_len": asked["max_model_len"] or positions}
