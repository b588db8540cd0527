"""The CPU platform gives verl all it asks of a device, and exists only under VERL_PLATFORM=cpu."""

import json
import re
import shlex
import sys
from pathlib import Path

import pytest
import torch
import verl
from omegaconf import OmegaConf

from balanced_agg.plugin import launch
from balanced_agg.plugin.cpu import device as cpu_device
from balanced_agg.plugin.cpu import in_verl as cpu

# What verl 0.9.1 calls on a device module in code that cannot run on CPU anyway.
NEVER_REACHED = {
    "Event": "a CUDA kernel's streams",
    "set_per_process_memory_fraction": "vLLM sleep mode and SGLang",
}

LOOK_AROUND = """
import importlib.metadata, json, os
import verl
from omegaconf import OmegaConf
from verl.plugin.platform.platform_manager import PlatformRegistry, get_platform
from verl.workers.engine import EngineRegistry
from verl.checkpoint_engine import CheckpointEngineRegistry
import verl.trainer.ppo.v1.replay_buffer as replay_buffer
import vllm.model_executor.layers.utils as vllm_layers
from balanced_agg.plugin.cpu.in_vllm import adapt_vllm

before = vllm_layers.dispatch_cpu_unquantized_gemm
adapt_vllm()
print(json.dumps({
    "platform": get_platform().device_name,
    "registered": "cpu" in PlatformRegistry.registered_names(),
    "engines": "cpu" in EngineRegistry._engines["language_model"]["fsdp2"],
    "checkpoint engine": "gloo" in CheckpointEngineRegistry._registry,
    "vllm target": os.environ.get("VLLM_TARGET_DEVICE"),
    "version wrapped": hasattr(importlib.metadata.version, "__wrapped__"),
    "polling wrapped": hasattr(replay_buffer.ReplayBuffer.__init__, "__wrapped__"),
    "plain weights": vllm_layers.dispatch_cpu_unquantized_gemm is not before,
}))
"""


@pytest.fixture
def look_around(fresh_process):
    """What a process sees after importing verl and vLLM."""

    def look_around(**variables: str) -> dict:
        done = fresh_process(LOOK_AROUND, **variables)
        assert done.returncode == 0, done.stderr[-3000:]
        return json.loads(done.stdout.splitlines()[-1])

    return look_around


@pytest.mark.slow
def test_under_verl_platform_cpu_everything_is_in_place(look_around):
    assert look_around(VERL_PLATFORM="cpu") == {
        "platform": "cpu",
        "registered": True,
        "engines": True,
        "checkpoint engine": True,
        "vllm target": "cpu",
        "version wrapped": True,
        "polling wrapped": True,
        "plain weights": True,
    }


@pytest.mark.slow
def test_elsewhere_nothing_of_it_is_active(look_around):
    seen = look_around()
    assert seen.pop("platform") != "cpu"
    assert seen.pop("vllm target") is None
    assert set(seen.values()) == {False}


def test_the_device_module_has_all_that_verl_calls():
    calls = set()
    for file in Path(verl.__file__).parent.rglob("*.py"):
        calls |= set(re.findall(r"get_torch_device\(\)\.(\w+)", file.read_text()))
    assert len(calls) > 10
    missing = {name for name in calls if not hasattr(cpu_device, name)}
    assert missing == set(NEVER_REACHED)


def test_received_weights_are_copies():
    buffer = torch.arange(4.0)
    kept = []

    def receive_weights(on_bucket_received):
        on_bucket_received([("weight", buffer[:2])], True)

    cpu._copy_received_weights(receive_weights, None, (lambda weights, is_last: kept.extend(weights),), {})
    buffer.zero_()
    ((name, weight),) = kept
    assert name == "weight" and weight.tolist() == [0.0, 1.0]


def test_saved_weights_are_copies():
    shard = torch.arange(2.0)
    saved, spec = cpu._copy_saved_weights(lambda model: ({"weight": (shard, "spec")}, "spec"), None, ("model",), {})
    shard.zero_()
    assert spec == "spec" and saved["weight"][1] == "spec"
    assert saved["weight"][0].tolist() == [0.0, 1.0]


@pytest.mark.parametrize("asked", [{}, {"poll_interval": 5.0}])
def test_rollouts_are_polled_often_unless_asked_otherwise(asked):
    received = {}
    cpu._poll_often(lambda **kwargs: received.update(kwargs), None, (), {"trainer_mode": "sync"} | asked)
    assert received == {"trainer_mode": "sync", "poll_interval": asked.get("poll_interval", 0.1)}


@pytest.fixture
def plain_config(monkeypatch, tmp_path):
    """verl's own config, and no Ray cluster in sight."""
    from hydra import compose, initialize_config_module

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    with initialize_config_module("verl.trainer.config", version_base=None):
        return compose("ppo_trainer")


@pytest.mark.parametrize(
    ("path", "compiles"),
    [
        ("/home/jörg/(a),[b]{c}=&/torch", True),
        ("/a space/torch", False),
        ("/jörg's/torch", False),
        ('/a"b/torch', False),
        ("/a;b/torch", False),
        ("/a\\b/torch", False),
    ],
)
def test_torch_compiles_nothing_where_its_own_path_would_not_do(monkeypatch, plain_config, path, compiles):
    monkeypatch.setattr(cpu.torch, "__file__", path)
    monkeypatch.setattr(cpu.fork_server, "start", lambda *modules: Path("/python"))
    monkeypatch.delenv("TORCHDYNAMO_DISABLE", raising=False)
    runtime_env = cpu._fork_processes(lambda config: {"env_vars": {}}, None, (plain_config,), {})
    assert runtime_env["env_vars"] == ({} if compiles else {"TORCHDYNAMO_DISABLE": "1"})
    monkeypatch.setenv("TORCHDYNAMO_DISABLE", "0")
    assert cpu._fork_processes(lambda config: {"env_vars": {}}, None, (plain_config,), {}) == {"env_vars": {}}


def test_the_interpreter_is_quoted_for_ray_where_its_path_needs_it(monkeypatch, plain_config):
    servers = ["/tmp/a server's/python"]
    monkeypatch.setattr(cpu.fork_server, "start", lambda *modules: Path(servers[0]))
    launch.name_interpreter(plain_config)
    runtime_env = plain_config.ray_kwargs.ray_init.runtime_env
    assert runtime_env.py_executable is None
    monkeypatch.setattr(sys, "executable", "/home/jörg's/bin/python")
    launch.name_interpreter(plain_config)
    assert shlex.split(runtime_env.py_executable) == ["/home/jörg's/bin/python"]
    cpu._fork_processes(lambda config: {"env_vars": {}}, None, (plain_config,), {})
    assert shlex.split(runtime_env.py_executable) == servers


@pytest.mark.parametrize(
    ("settings", "interpreter"),
    [
        ({}, "/of/the/server/python"),
        ({"ray_kwargs.ray_init.runtime_env.py_executable": "/of/the/user/python"}, "/of/the/user/python"),
        ({"trainer.nnodes": 2}, None),
    ],
)
def test_ray_gets_the_server_s_interpreter_unless_the_user_names_one_or_a_cluster(
    monkeypatch, plain_config, settings, interpreter
):
    environments = []

    def start(modules, environment, early):
        environments.append(environment)
        return Path("/of/the/server/python")

    monkeypatch.setattr(cpu.fork_server, "start", start)
    for key, value in settings.items():
        OmegaConf.update(plain_config, key, value)
    runtime_env = {"env_vars": {"VERL_FULL_DETERMINISM": "0"}}
    assert cpu._fork_processes(lambda config: runtime_env, None, (plain_config,), {}) is runtime_env
    assert plain_config.ray_kwargs.ray_init.runtime_env.py_executable == interpreter
    assert [environment["VERL_FULL_DETERMINISM"] for environment in environments] == ["0"] * (not settings)
