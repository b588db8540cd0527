"""Where it runs: the platform, its devices, and the Ray cluster that is joined or started."""

import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from balanced_agg.plugin.checks.batches import SEPARATE, all_gpus
from balanced_agg.plugin.cpu import cpu_is_chosen
from balanced_agg.plugin.refusal import Refusal

# verl's resource pools reserve these CPUs for every rank (max_colocate_count), and these for one that only generates.
CPUS_PER_RANK = 3
CPUS_PER_ROLLOUT_RANK = 2
ANSWER_SECONDS = 5
LONGEST_ADDRESS = 300  # bytes
START_SECONDS = 50
RAY_INIT = "ray_kwargs.ray_init"


def check_platform(config: DictConfig) -> None:
    """Check that the Hydra group ``hardware: cpu`` and ``VERL_PLATFORM=cpu`` are used together."""
    if chosen_hardware() == "cpu" and not cpu_is_chosen():
        platform, remedy = os.environ.get("VERL_PLATFORM", ""), "export VERL_PLATFORM=cpu, or set hardware to another"
        raise Refusal("VERL_PLATFORM", f"={platform!r} with hardware=cpu", remedy)
    if config.trainer.device != "cpu" and cpu_is_chosen():
        raise Refusal(
            "trainer.device",
            f"={config.trainer.device} with VERL_PLATFORM=cpu, which `balanced-agg train` sets on a machine without "
            "GPUs",
            "set hardware=cpu, or export VERL_PLATFORM=nvidia",
        )


def chosen_hardware() -> str | None:
    """The config's choice of the group `hardware`, which trainer.device is not: verl overwrites that at a launch."""
    return HydraConfig.get().runtime.choices.get("hardware") if HydraConfig.initialized() else None


def ray_address_file(config: DictConfig) -> Path:
    """The file in which `ray start` leaves the address that ray.init() then joins."""
    folder = OmegaConf.select(config, f"{RAY_INIT}._temp_dir")
    if folder is None:
        folder = Path(os.environ.get("RAY_TMPDIR", os.environ.get("TMPDIR", "/tmp")), "ray")
    return Path(folder, "ray_current_cluster")


def named_cluster(config: DictConfig) -> tuple[str, str] | None:
    """(who names it, address) of the cluster that ray.init() will join; None if it starts one of its own."""
    named, exported = OmegaConf.select(config, f"{RAY_INIT}.address"), os.environ.get("RAY_ADDRESS")
    if (named or exported) == "local":  # Ray's word for a cluster of the run's own
        return None
    if exported and named in (None, exported):
        return "RAY_ADDRESS", exported
    if named:
        return f"{RAY_INIT}.address", named
    file = ray_address_file(config)
    return (str(file), trusted_address(file)) if os.path.lexists(file) else None


def trusted_address(file: Path) -> str:
    """The content of a file that this user or root has written; empty for any other, or for what is no plain file.

    All users of a machine can write to the folder that it is in.
    """
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return ""
    try:
        status = os.fstat(descriptor)
        ours = stat.S_ISREG(status.st_mode) and status.st_uid in (0, os.getuid())
        return os.read(descriptor, LONGEST_ADDRESS).decode(errors="replace").strip() if ours else ""
    finally:
        os.close(descriptor)


def starts_ray(config: DictConfig) -> bool:
    """Whether verl will start a Ray of its own on this machine: no cluster is named or runs here, nor is one needed."""
    return not (named_cluster(config) or config.trainer.nnodes > 1 or ray_is_initialized())


def ray_is_initialized() -> bool:
    return "ray" in sys.modules and sys.modules["ray"].is_initialized()


def check_cluster(config: DictConfig) -> None:
    """Check that a cluster that is named answers and is not given a size, and that several nodes have one.

    Ray waits two minutes for one that does not answer.
    """
    if ray_is_initialized():
        return
    named = named_cluster(config)
    if named is None:
        if config.trainer.nnodes > 1:
            raise Refusal(
                "trainer.nnodes",
                f"={config.trainer.nnodes} needs a Ray cluster, and none is named or runs here",
                "start it (scripts/ray_cluster.sh) and use scripts/submit.sh, or export RAY_ADDRESS and add "
                "cluster=existing, or set trainer.nnodes=1",
            )
        return
    name, address = named
    if not address:
        what = ", which would name a Ray cluster to join, is empty or was not written by you"
        raise Refusal(name, what, "delete it, or export RAY_ADDRESS=local for a Ray of the run's own")
    if problem := no_answer(address):
        remedy = f"delete {name}" if name.startswith("/") else f"unset {name}"
        raise Refusal(name, f" names a Ray cluster at {address}: {problem}", f"start it, or {remedy}")
    sizes = () if "://" in address else ("num_cpus", "num_gpus", "object_store_memory")  # Ray's client hands them on
    for key in sizes:
        if (value := OmegaConf.select(config, f"{RAY_INIT}.{key}")) is not None:
            raise Refusal(
                f"{RAY_INIT}.{key}",
                f"={value} is for a Ray of the run's own, but {name} names a cluster at {address}",
                "add cluster=existing (null for each of these keys), or name no cluster",
            )


def no_answer(address: str) -> str | None:
    """Why nothing listens at this address; None if something does, or if Ray is to look for it ("auto")."""
    host, _, port = address.partition("://")[2].rpartition(":") if "://" in address else address.rpartition(":")
    if not port.isdigit():
        return None
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER_SECONDS).close()
    except OSError as error:
        return f"it does not answer ({error})"
    return None


def check_interpreter(config: DictConfig) -> None:
    """Check that an interpreter that is named for Ray's processes starts; Ray tries the same one again for ever."""
    key = f"{RAY_INIT}.runtime_env.py_executable"
    named, variables = OmegaConf.select(config, key), OmegaConf.select(config, f"{RAY_INIT}.runtime_env.env_vars") or {}
    if named is None:
        return
    as_ray_does = ["bash", "-c", f"exec {named} -c 'import ray'"]
    environment = os.environ | {name: str(value) for name, value in variables.items()}
    try:
        done = subprocess.run(as_ray_does, env=environment, capture_output=True, text=True, timeout=START_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        problem = str(error)
    else:
        problem = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1] if done.returncode else ""
    if problem:
        raise Refusal(key, f"={named} does not start: {problem}", "set it to an interpreter that has ray, or to null")


def own_ray(config: DictConfig) -> bool:
    """Whether verl will start a Ray here whose size can be judged; on a platform that is refused it cannot."""
    try:
        check_platform(config)
    except Refusal:
        return False
    return starts_ray(config)


def check_ray_cpus(config: DictConfig) -> None:
    """Check that a Ray cluster of the run's own has a CPU for every actor that asks for one; else it waits forever.

    A cluster that runs already is not looked at.
    """
    available = OmegaConf.select(config, f"{RAY_INIT}.num_cpus") or os.cpu_count()
    needed, storage, generating = needed_cpus(config), storage_units(config), rollout_ranks(config)
    if own_ray(config) and available < needed:
        of_rollout = f"{generating} rollout ranks x {CPUS_PER_ROLLOUT_RANK} CPUs, " if generating else ""
        raise Refusal(
            f"{RAY_INIT}.num_cpus",
            f": Ray would wait forever, because {ranks(config)} ranks x {CPUS_PER_RANK} CPUs, {of_rollout}{storage} "
            f"TransferQueue storage units and 2 more need {needed} CPUs, but {available} are there",
            f"set {RAY_INIT}.num_cpus={needed} (a logical count, it may exceed the real one), or lower "
            "trainer.n_gpus_per_node or transfer_queue.backend.SimpleStorage.num_data_storage_units",
        )


def needed_cpus(config: DictConfig) -> int:
    """The CPUs that actors ask for, on all nodes together."""
    # One more for TransferQueue's controller and one free, because placing any further actor takes a free one.
    of_ranks = ranks(config) * CPUS_PER_RANK + rollout_ranks(config) * CPUS_PER_ROLLOUT_RANK
    return of_ranks + storage_units(config) + 2


def ranks(config: DictConfig) -> int:
    """The number of GPUs, or of what stands for one, on all nodes together, those of a reward model included."""
    reward_model = config.reward.reward_model
    its_own = reward_model.enable and reward_model.enable_resource_pool
    return all_gpus(config) + (reward_model.n_gpus_per_node * reward_model.nnodes if its_own else 0)


def rollout_ranks(config: DictConfig) -> int:
    """The number of GPUs that the rollout has to itself, under trainer_mode=separate_async."""
    if OmegaConf.select(config, "trainer.v1.trainer_mode") != SEPARATE:
        return 0
    return config.actor_rollout_ref.rollout.nnodes * config.actor_rollout_ref.rollout.n_gpus_per_node


def storage_units(config: DictConfig) -> int:
    return OmegaConf.select(config, "transfer_queue.backend.SimpleStorage.num_data_storage_units", default=0)


def check_gpus(config: DictConfig) -> None:
    """Check that a Ray cluster of the run's own has a GPU for every rank, a logical one on the CPU platform."""
    if not own_ray(config):
        return
    from verl.utils.device import get_torch_device

    device, logical = config.trainer.device, OmegaConf.select(config, f"{RAY_INIT}.num_gpus")
    needed = ranks(config) + rollout_ranks(config)
    if device != "cpu" and (present := get_torch_device().device_count()) < needed:
        raise Refusal(
            "trainer.n_gpus_per_node",
            f"={config.trainer.n_gpus_per_node}: the run needs {needed} GPUs ({device}), but {present} are there",
            "set hardware to one that fits (1gpu, or cpu with VERL_PLATFORM=cpu), or trainer.n_gpus_per_node",
        )
    if logical < needed if logical is not None else device == "cpu":
        raise Refusal(
            f"{RAY_INIT}.num_gpus",
            f"={logical}, but with trainer.n_gpus_per_node={config.trainer.n_gpus_per_node} the run needs {needed}",
            f"set it to {needed}" + ("" if device == "cpu" else " or null"),
        )
