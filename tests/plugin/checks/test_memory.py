"""The memory of the paper's recipes by hand, and the machines on which they certainly do not fit."""

import pytest
from pytest import approx

from balanced_agg.plugin.checks import memory
from balanced_agg.plugin.checks.memory import check_memory, memory_of
from tests.composed import compose_recipe
from tests.plugin.gpu.models import SHAPES, write_shape

ACTOR, ROLLOUT = "actor_rollout_ref.actor", "actor_rollout_ref.rollout"
# 2 x 152 064 x 3 584 of embeddings and head; a layer 2 x 3 584 x (3 584 + 512) + 3 x 3 584 x 18 944
P7, E7 = 1_089_994_752 + 28 * (29_360_128 + 203_685_888), 1_089_994_752
# 151 936 x 2 048; a layer 2 x 2 048 x (2 048 + 1 024) + 3 x 2 048 x 6 144
P2, E2 = 311_164_928 + 28 * (12_582_912 + 37_748_736), 311_164_928


@pytest.fixture
def composed(tmp_path):
    """A recipe of a model whose config.json is here, of the same sizes on any hardware."""

    def compose(recipe: str, *overrides: str, offload: bool = False, offload_policy: bool = False):
        sizes = (
            f"{ACTOR}.ppo_max_token_len_per_gpu=10000",
            f"{ROLLOUT}.log_prob_max_token_len_per_gpu=20000",
            f"{ROLLOUT}.gpu_memory_utilization=0.5",
            f"{ACTOR}.fsdp_config.fsdp_size=-1",
            f"{ACTOR}.fsdp_config.param_offload={offload}",
            f"{ACTOR}.fsdp_config.optimizer_offload={offload}",
            f"{ACTOR}.fsdp_config.offload_policy={offload_policy}",
        )
        config = compose_recipe(recipe, *sizes, *overrides)
        path = config.actor_rollout_ref.model.path
        if path in SHAPES:
            config.actor_rollout_ref.model.path = str(write_shape(path, tmp_path / path))
        return config

    return compose


def test_published_numbers_of_parameters():
    shapes = [memory.shape_of(SHAPES[name]) for name in ("Qwen/Qwen2.5-Math-7B", "Qwen/Qwen3-1.7B")]
    assert [shape.parameters for shape in shapes] == [P7, P2]
    # The hub counts norms and biases, too.
    assert approx([7_615_616_512, 1_720_574_976], rel=1e-3) == [P7, P2]


def test_seven_billion_on_eight_gpus_by_hand(composed):
    needs = memory_of(composed("qwen2.5_math_7b_dapo17k", "hardware=8gpu"))
    assert needs.update.parts == approx(
        {
            "state": 16 * P7 / 8,
            "embeddings": 4 * E7,
            "vLLM asleep": 4e9,
            "logits": 4 * 152_064 * 10_000,
            "layers": (2 * 28 * 3_584 + 4 * (8 * 3_584 + 3 * 18_944)) * 10_000,
        }
    )
    assert needs.log_probs.parts == approx(
        {
            "state": 12 * P7 / 8,
            "embeddings": 2 * E7,
            "vLLM asleep": 4e9,
            "logits": 4 * 152_064 * 20_000,
            "layers": 2 * (8 * 3_584 + 3 * 18_944) * 20_000,
        }
    )
    assert (needs.weights, needs.at_rest, needs.host) == approx((2 * P7, 12 * P7 / 8, 0))
    assert needs.cache_a_token == 2 * 2 * 28 * 4 * 128  # keys and values of 4 heads of 128, in bf16
    assert needs.longest == 32_768  # the recipe's positions: vLLM is given no window


def test_one_gpu_has_the_state_on_its_host_or_moves_it_there(composed):
    never = memory_of(composed("qwen2.5_math_7b_dapo17k", "hardware=1gpu", offload_policy=True))
    assert (never.update.parts["state"], never.at_rest) == (0, 0)
    assert never.host == approx(16 * P7)  # 122 GB
    moved = memory_of(composed("qwen3_1.7b_dapo17k", "hardware=1gpu", offload=True))
    assert (moved.update.parts["state"], moved.log_probs.parts["state"]) == approx((16 * P2, 4 * P2))
    assert (moved.at_rest, moved.host) == approx((0, 12 * P2))
    assert moved.cache_a_token == 2 * 2 * 28 * 8 * 128


@pytest.mark.parametrize(
    ("override", "of", "ratio"),
    [
        (f"{ACTOR}.fsdp_config.fsdp_size=2", lambda needs: needs.update.parts["state"], 4),
        (f"{ACTOR}.fsdp_config.model_dtype=bf16", lambda needs: needs.update.parts["state"], 1 / 2),
        (f"{ACTOR}.ppo_max_token_len_per_gpu=30000", lambda needs: needs.update.parts["logits"], 3),
        (f"{ROLLOUT}.log_prob_max_token_len_per_gpu=30000", lambda needs: needs.log_probs.parts["layers"], 1.5),
        (f"{ROLLOUT}.tensor_model_parallel_size=2", lambda needs: needs.weights, 1 / 2),
        (f"{ROLLOUT}.tensor_model_parallel_size=2", lambda needs: needs.cache_a_token, 1 / 2),
        # 4 bytes of logits and 8 of entropy that is not compiled
        (f"{ACTOR}.fsdp_config.use_torch_compile=False", lambda needs: needs.log_probs.parts["logits"], 3),
        (
            f"{ACTOR}.use_dynamic_bsz=False {ACTOR}.ppo_micro_batch_size_per_gpu=2",
            lambda needs: needs.update.tokens,
            2.048,
        ),
        (
            f"{ACTOR}.fsdp_config.use_no_sync_for_gradient_accumulation=True",
            lambda needs: len(needs.update.parts),
            6 / 5,
        ),
        ("trainer.nnodes=2", lambda needs: needs.update.parts["state"], 1 / 2),
    ],
)
def test_each_key_changes_what_it_is_in(composed, override, of, ratio):
    before, after = (
        of(memory_of(composed("qwen3_1.7b_dapo17k", "hardware=8gpu", *overrides)))
        for overrides in ((), override.split())
    )
    assert after / before == approx(ratio)


def test_nothing_is_said_of_cpus_of_other_engines_or_of_models_that_are_unknown(composed):
    assert memory_of(composed("qwen3_1.7b_dapo17k", "hardware=cpu")) is None
    assert memory_of(composed("qwen3_1.7b_dapo17k", f"{ACTOR}.strategy=megatron")) is None
    assert memory_of(composed("qwen3_1.7b_dapo17k", "actor_rollout_ref.model.path=nobody/has-this")) is None
    shape = SHAPES["Qwen/Qwen3-1.7B"]
    assert memory.shape_of(shape | {"model_type": "qwen3_moe"}) is None
    assert memory.shape_of(shape | {"hidden_size": None}) is None


@pytest.fixture
def machine(monkeypatch):
    """A machine with this memory, in GB."""

    def with_memory(gpu: float | None, host: float = 1000) -> None:
        monkeypatch.setattr(memory, "own_ray", lambda config: True)
        monkeypatch.setattr(memory, "gpu_bytes", lambda: gpu and int(gpu * 1e9))
        monkeypatch.setattr(memory, "host_bytes", lambda: (int(host * 1e9), int(host * 1e9)))

    return with_memory


def test_122_gb_of_adam_need_a_host_that_has_them(composed, machine):
    config = composed("qwen2.5_math_7b_dapo17k", "hardware=1gpu", offload_policy=True)
    machine(gpu=80, host=123)
    check_memory(config)
    machine(gpu=80, host=121)
    with pytest.raises(
        ValueError, match=rf"^{ACTOR}\.fsdp_config\.offload_policy=True keeps 122 GB .* 121 GB; set hard"
    ):
        check_memory(config)


def test_state_that_is_larger_than_the_gpu_is_refused(composed, machine):
    config = composed("qwen3_1.7b_dapo17k", "hardware=1gpu")
    machine(gpu=28)
    check_memory(config)
    machine(gpu=27)
    with pytest.raises(
        ValueError, match=r"^trainer\.n_gpus_per_node=1: an update has 28 GB .* 27 GB; .*offload_policy"
    ):
        check_memory(config)


def test_a_share_of_the_gpu_that_cannot_hold_the_rollouts_weights_and_one_sequence_is_refused(composed, machine):
    config = composed("qwen2.5_math_7b_dapo17k", "hardware=8gpu", f"{ACTOR}.fsdp_config.fsdp_size=8")
    # 15.2 of weights and 1.9 of cache
    machine(gpu=35)
    check_memory(config)
    machine(gpu=34)
    with pytest.raises(
        ValueError, match=r"gpu_memory_utilization=0\.5 of a GPU of 34 GB .* 17 GB .* set it to more than"
    ):
        check_memory(config)
    machine(gpu=16)
    with pytest.raises(ValueError, match=r"tokens take; set actor_rollout_ref\.rollout\.tensor_model_parallel_size"):
        check_memory(config)
    for option in (f"{ROLLOUT}.quantization=fp8", f"+{ROLLOUT}.engine_kwargs.vllm.kv_cache_dtype=fp8"):
        check_memory(composed("qwen2.5_math_7b_dapo17k", "hardware=8gpu", option))


def test_a_gpu_that_no_driver_tells_of_and_a_cluster_are_not_judged(composed, machine, monkeypatch):
    config = composed("qwen3_1.7b_dapo17k", "hardware=1gpu")
    machine(gpu=None)
    check_memory(config)
    machine(gpu=1)
    monkeypatch.setattr(memory, "own_ray", lambda config: False)
    check_memory(config)


def test_the_driver_is_asked_for_its_largest_gpu(tmp_path, monkeypatch):
    tool = tmp_path / "nvidia-smi"
    tool.write_text('#!/bin/sh\n[ "$1" = --query-gpu=memory.total ] && printf "40960\\n81559\\n"\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert memory.gpu_bytes() == 81_559 * 2**20
    tool.write_text("#!/bin/sh\nexit 9\n")
    assert memory.gpu_bytes() is None
    tool.unlink()
    assert memory.gpu_bytes() is None
