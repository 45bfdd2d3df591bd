"""The devices of this host, listed without loading CUDA, which the parent of the workers must not hold."""

import os
import shutil
import subprocess
from contextlib import suppress
from importlib import metadata
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from penstock.core.device import CPU_SIDES, Device
from penstock.errors import ConfigurationError
from penstock.settings import WorkerSettings

GPU_SIDES = (128, 192, 256, 384, 512)
"""Sides of the square tiles of a GPU; each is warmed up. 512 px of Real-ESRGAN x4plus need 9 GB, so none is larger."""

TASKS_SHARE = 0.6
"""Share of the memory for the tasks in flight; the rest is for models, Redis, the API and the page cache."""

CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
"""Where version 2 and version 1 of cgroups say how much memory a container may use."""

PINNED_BYTES, PINNED_WSL_BYTES = 2 * 1024**3, 512 * 1024**2
"""Memory of the host that one worker may page-lock for its GPU. The results of four batches of 8 tiles of 512 px, two
in flight and two that are accepted, are 0.4 GB in uint8 and 1.6 GB in fp32."""

GPU_RESERVE_BYTES = 1536 * 1024 * 1024
"""Memory of a GPU that no arena may take: the context and the workspaces of cuDNN need it."""


KERNEL_VERSION = Path("/proc/version")


class Gpu(Struct, frozen=True):
    """A GPU as the driver lists it. Its memory is 0 where the driver does not say."""

    uuid: str
    memory_bytes: int


class Placement(Struct, frozen=True, kw_only=True):
    """One worker process: its device, and the environment variables with which it sees no other device."""

    device: Device
    environment: dict[str, str]


def placements(settings: WorkerSettings) -> list[Placement]:
    """Returns one placement for each worker process of this host.

    Raises ConfigurationError when a GPU is asked for that is not there, or cannot be used by what is installed.
    """
    wanted = settings.gpu_ids
    gpus = {} if wanted == "cpu" else _gpus()
    if wanted not in ("auto", "cpu"):
        numbers = [part.strip() for part in wanted.split(",")]
        missing = [n for n in numbers if n not in gpus]
        if missing:
            raise ConfigurationError(
                f"worker.gpu_ids: there is no GPU {missing[0]} here; found {sorted(gpus) or 'none'}"
            )
        if not _has_gpu_runtime():
            raise ConfigurationError("worker.gpu_ids: asks for GPUs, but penstock-server[gpu] is not installed")
        gpus = {n: gpus[n] for n in numbers}
    if gpus and _has_gpu_runtime():
        places = [_on_gpu(number, gpu, settings) for number, gpu in gpus.items()]
    else:
        places = [Placement(device=cpu(settings.threads), environment={"CUDA_VISIBLE_DEVICES": ""})]
    share = settings.memory_bytes or int(memory() * TASKS_SHARE / len(places))
    return [replace(place, device=_with_memory(place.device, share, settings)) for place in places]


def cpu(threads: int = 0) -> Device:
    """The CPU as a device; with `threads` 0 it has one thread for each core this process may use."""
    return Device(
        name="cpu",
        kind="cpu",
        threads=threads or cores(),
        streams=threads or cores(),
        sides=CPU_SIDES,
        square=False,
        batches=(1,),
    )


def cores() -> int:
    """Cores this process may use, which in a container may be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory() -> int:
    """Bytes of memory this process may use, which in a container may be fewer than the machine has."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for path in CGROUP_LIMITS:
        with suppress(OSError, ValueError):  # not there, or "max"
            limits.append(int(Path(path).read_text()))
    return min(limits)


def _with_memory(device: Device, share: int, settings: WorkerSettings) -> Device:
    """The device with its share of the host's memory, from which what may be page-locked for a GPU is taken."""
    if device.kind == "cpu":
        return replace(device, ram_bytes=share)
    pinned = settings.pinned_bytes or min(PINNED_WSL_BYTES if is_wsl() else PINNED_BYTES, share // 4)
    return replace(device, ram_bytes=max(share // 2, share - pinned), pinned_bytes=pinned)


def is_wsl() -> bool:
    """Whether this is Linux on Windows, where the driver locks about 1 GiB in all, and half of that in a container."""
    try:
        return "microsoft" in KERNEL_VERSION.read_text().lower()
    except OSError:
        return False


def _on_gpu(number: str, gpu: Gpu, settings: WorkerSettings) -> Placement:
    device = Device(
        name=f"cuda:{number}",
        kind="cuda",
        threads=1,
        sides=GPU_SIDES,
        batches=tuple(2**i for i in range(settings.max_batch.bit_length()) if 2**i <= settings.max_batch),
        precision=settings.precision,
        bound=True,
        cuda_graphs=settings.cuda_graphs,
        tensorrt=settings.tensorrt,
        engine_cache_dir=settings.engine_cache_dir,
        memory_limit_bytes=settings.gpu_memory_bytes or max(0, gpu.memory_bytes - GPU_RESERVE_BYTES),
    )
    # By UUID: numbers are ordered differently by CUDA and by the driver's tools.
    return Placement(device=device, environment={"CUDA_VISIBLE_DEVICES": gpu.uuid, "CUDA_DEVICE_ORDER": "PCI_BUS_ID"})


def _gpus() -> dict[str, Gpu]:
    """The GPUs by their numbers in the driver's tools."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return {}
    query = [tool, "--query-gpu=index,uuid,memory.total", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return {}
    rows = [[cell.strip() for cell in line.split(",")] for line in answer.splitlines() if line.count(",") == 2]
    # The memory is in MiB, or words such as "[N/A]".
    return {number: Gpu(uuid, int(memory) * 1024**2 if memory.isdigit() else 0) for number, uuid, memory in rows}


def _has_gpu_runtime() -> bool:
    return any(d.metadata["Name"] == "onnxruntime-gpu" for d in metadata.distributions(name="onnxruntime-gpu"))
