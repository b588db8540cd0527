"""verl's fused kernels are refused where they crash (tests/plugin/loss/test_engine.py), and only there."""

import json

import pytest

from balanced_agg.plugin.checks.model import check_fused_kernels
from tests.composed import compose_recipe

FUSED, STRATEGY = "actor_rollout_ref.model.use_fused_kernels", "actor_rollout_ref.actor.strategy"


def composed(folder, model: dict, *overrides: str):
    (folder / "config.json").write_text(json.dumps(model))
    path = f"actor_rollout_ref.model.path={folder}"
    return compose_recipe("qwen2.5_math_7b_dapo17k", path, f"{FUSED}=True", *overrides)


@pytest.mark.parametrize("model", [{"tie_word_embeddings": False}, {"model_type": "qwen2"}])  # qwen2's default
def test_with_a_head_of_its_own_under_fsdp2_they_are_refused(tmp_path, model):
    with pytest.raises(ValueError, match=rf"^{FUSED}=True: .*{tmp_path} has one of its own; set it to False$"):
        check_fused_kernels(composed(tmp_path, model))


@pytest.mark.parametrize(
    ("model", "override"),
    [
        ({"tie_word_embeddings": True}, f"{FUSED}=True"),
        ({"tie_word_embeddings": False}, f"{FUSED}=False"),
        ({"tie_word_embeddings": False}, f"{STRATEGY}=fsdp"),
        ({"tie_word_embeddings": False}, "+actor_rollout_ref.model.override_config.tie_word_embeddings=True"),
        ({"model_type": "of its own"}, f"{FUSED}=True"),
        ({}, "actor_rollout_ref.model.path=nobody/has-this"),
    ],
)
def test_otherwise_they_are_not(tmp_path, model, override):
    check_fused_kernels(composed(tmp_path, model, override))
