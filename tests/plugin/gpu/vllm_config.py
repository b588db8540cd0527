"""What vLLM makes of rollouts on a GPU, up to its engine's start: python -m tests.plugin.gpu.vllm_config FOLDER

Runs in the environment for GPUs, on a machine that needs none: vLLM sees an H100. verl's own server builds the command
line, and vLLM its config of that. Prints a line of JSON for each one of FOLDER/cases.json, a list of verl's sections
`rollout` and `model`.
"""

import asyncio
import json
import subprocess
import sys
from ctypes import CDLL
from pathlib import Path
from unittest.mock import Mock, patch

# What vLLM's kernels ask libcuda for as they are loaded.
DRIVER = (
    *("cuCtxGetCurrent", "cuCtxSetCurrent", "cuDeviceGetAttribute", "cuDevicePrimaryCtxRetain", "cuGetErrorString"),
    *("cuGetProcAddress_v2", "cuMemAddressFree", "cuMemAddressReserve", "cuMemCreate", "cuMemGetAllocationGranularity"),
    *("cuMemMap", "cuMemRelease", "cuMemSetAccess", "cuMemUnmap", "cuPointerGetAttribute", "cuTensorMapEncodeTiled"),
)


def load_driver(folder: Path) -> None:
    """The driver's library; where there is none, one whose every function says that there is no device."""
    try:
        CDLL("libcuda.so.1")
    except OSError:
        source, library = folder / "cuda.c", folder / "libcuda.so.1"
        source.write_text("".join(f"int {name}(void) {{ return 100; }}\n" for name in DRIVER))
        subprocess.run(["gcc", "-shared", "-fPIC", f"-Wl,-soname,{library.name}", "-o", library, source], check=True)
        CDLL(str(library))


load_driver(Path(sys.argv[1]))

import vllm.platforms  # noqa: E402
from omegaconf import DictConfig, OmegaConf  # noqa: E402
from vllm.platforms.cuda import NonNvmlCudaPlatform  # noqa: E402
from vllm.platforms.interface import DeviceCapability  # noqa: E402


class H100(NonNvmlCudaPlatform):
    """What vLLM asks of the driver, answered."""

    @classmethod
    def get_device_capability(cls, device_id: int = 0) -> DeviceCapability:
        return DeviceCapability(9, 0)

    @classmethod
    def get_device_name(cls, device_id: int = 0) -> str:
        return "NVIDIA H100 80GB HBM3"

    @classmethod
    def get_device_total_memory(cls, device_id: int = 0) -> int:
        return 85_520_809_984


vllm.platforms._current_platform = H100()  # before any other module of vLLM asks

from verl.workers.rollout.replica import RolloutMode  # noqa: E402
from verl.workers.rollout.vllm_rollout import vllm_async_server  # noqa: E402


class Reached(Exception):
    """verl is about to start vLLM's engine, with this config."""


def stop(vllm_config, **further) -> None:
    raise Reached(vllm_config)


def config_of(rollout: DictConfig, model: DictConfig) -> vllm.config.VllmConfig:
    """vLLM's config for the first replica of a rollout, by verl's own server."""
    with patch.object(vllm_async_server, "ray") as ray:
        ray.get_runtime_context().get_job_id.return_value = "01000000"
        ray.util.get_node_ip_address.return_value = "127.0.0.1"
        server = vllm_async_server.vLLMHttpServer(
            config=rollout,
            model_config=model,
            rollout_mode=RolloutMode.HYBRID,
            workers=[Mock()] * rollout.tensor_model_parallel_size,
            replica_rank=0,
            node_rank=0,
            gpus_per_node=rollout.tensor_model_parallel_size,
            nnodes=1,
            cuda_visible_devices="0",
        )
    with patch.object(vllm_async_server.AsyncLLM, "from_vllm_config", stop):
        try:
            asyncio.run(server.launch_server())
        except Reached as reached:
            return reached.args[0]
    raise RuntimeError("verl's server starts no engine")


def main(folder: Path) -> None:
    for case in json.loads((folder / "cases.json").read_text()):
        found = config_of(OmegaConf.create(case["rollout"]), OmegaConf.create(case["model"]))
        values = {
            "max_model_len": found.model_config.max_model_len,
            "max_num_seqs": found.scheduler_config.max_num_seqs,
            "gpu_memory_utilization": found.cache_config.gpu_memory_utilization,
            "tensor_model_parallel_size": found.parallel_config.tensor_parallel_size,
            "dtype": str(found.model_config.dtype).removeprefix("torch."),
        }
        print(json.dumps(values), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
