"""The doctor's lines on memory: a table of what a recipe takes, and warnings with what to set."""

import pytest

from balanced_agg.commands.doctor import memory_lines
from balanced_agg.commands.doctor.check import OK, WARN
from balanced_agg.commands.doctor.recipe import Recipe
from balanced_agg.plugin.checks.memory import memory_of
from tests.composed import compose_recipe
from tests.plugin.gpu.models import write_shape

RECIPES = {"7b": "qwen2.5_math_7b_dapo17k", "2b": "qwen3_1.7b_dapo17k"}


@pytest.fixture
def lines(tmp_path, monkeypatch):
    """Of a model on a machine of this memory, in GB."""

    def found(model: str, *overrides: str, gpu: float | None = 85.5, host: float = 1000, cluster: bool = False):
        monkeypatch.setattr(memory_lines, "own_ray", lambda config: not cluster)
        monkeypatch.setattr(memory_lines, "gpu_bytes", lambda: gpu and int(gpu * 1e9))
        monkeypatch.setattr(memory_lines, "host_bytes", lambda: (int(host * 1e9), int(host * 0.9e9)))
        config = compose_recipe(RECIPES[model], *overrides)
        config.actor_rollout_ref.model.path = str(write_shape(config.actor_rollout_ref.model.path, tmp_path))
        return {check.check: check for check in memory_lines.memory_lines(Recipe(model, config))}

    return found


@pytest.mark.parametrize("hardware", ["1gpu", "8gpu", pytest.param("4x8gpu", marks=pytest.mark.evidence)])
@pytest.mark.parametrize("model", RECIPES)
def test_the_recipes_fit_the_machines_that_they_are_sized_for(lines, model, hardware):
    found = lines(model, f"hardware={hardware}", host=256)
    assert {check.status for check in found.values()} == {OK}
    assert ("host memory" in found) == (hardware == "1gpu")


def test_a_line_says_what_takes_the_memory(lines):
    found = lines("7b", "hardware=8gpu", "actor_rollout_ref.actor.ppo_max_token_len_per_gpu=20480")
    assert found["GPU memory, update"].detail == (
        "47 GB of 86 GB: state 15 GB, embeddings 4.4 GB, vLLM asleep 4.0 GB, logits 12 GB, layers 11 GB (20480 tokens)"
    )
    assert "weights 15 GB, cache for at most 85" in found["GPU memory, rollouts"].detail


def test_cards_of_40_gb_are_told_and_the_budget_that_fits_them(lines):
    budget = "actor_rollout_ref.actor.ppo_max_token_len_per_gpu"
    update = lines("7b", "hardware=8gpu", f"{budget}=20480", gpu=42.9)["GPU memory, update"]
    assert update.status == WARN
    key, fitting = update.remedy.removeprefix("set ").split("=")
    assert key == budget
    # Not a token less than fits in 95 %.
    for tokens, status in ((int(fitting), OK), (int(fitting) + 1, WARN)):
        found = lines("7b", "hardware=8gpu", f"{budget}={tokens}", gpu=42.9)
        assert found["GPU memory, update"].status == status


def test_micro_batches_by_rows_are_told_the_rows_that_fit(lines):
    actor = "actor_rollout_ref.actor"
    rows = (f"{actor}.use_dynamic_bsz=False", f"{actor}.ppo_micro_batch_size_per_gpu=8")
    update = lines("7b", "hardware=8gpu", *rows)["GPU memory, update"]
    # 81 GB less 24 are 50 000 tokens of 1.15 MB: 4 sequences of 10 240
    assert (update.status, update.remedy) == (WARN, f"set {actor}.ppo_micro_batch_size_per_gpu=4")


def test_where_not_even_one_sequence_fits_more_gpus_are_the_remedy(lines):
    found = lines("2b", "hardware=1gpu", gpu=42.9)
    assert found["GPU memory, update"].status == WARN
    assert found["GPU memory, update"].remedy.endswith("or actor_rollout_ref.actor.fsdp_config.offload_policy=True")


def test_rollouts_and_the_state_beside_them_share_a_gpu(lines):
    found = lines("7b", "hardware=8gpu", "actor_rollout_ref.rollout.gpu_memory_utilization=0.85")
    # 0.95 less 11.4 of 85.5
    assert found["GPU memory, rollouts"].remedy.startswith("set actor_rollout_ref.rollout.gpu_memory_utilization=0.81,")


def test_122_gb_of_adam_are_held_against_what_is_free_on_the_host(lines):
    for host, status in ((140, OK), (130, WARN)):  # of which nine tenths are free
        check = lines("7b", "hardware=1gpu", host=host)["host memory"]
        assert (check.status, check.detail.partition(";")[0]) == (status, "122 GB of training state")


def test_on_a_cluster_and_without_a_driver_the_needs_stand_alone(lines):
    for found in (lines("7b", "hardware=1gpu", cluster=True), lines("7b", "hardware=8gpu", gpu=None)):
        assert {check.status for check in found.values()} == {OK}
        assert " of 86 GB" not in str(found)


def test_cpus_have_no_such_line_and_an_unknown_model_one_that_says_so(lines):
    assert lines("2b", "hardware=cpu") == {}
    config = compose_recipe(RECIPES["2b"], "actor_rollout_ref.model.path=nobody/has-this")
    (check,) = memory_lines.memory_lines(Recipe("2b", config))
    assert "nobody/has-this has no config.json here" in check.detail
    assert memory_of(config) is None
