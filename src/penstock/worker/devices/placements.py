"""One placement for each worker process of this host, found without loading CUDA: the parent of the workers must not
hold it."""

from collections.abc import Iterator

from msgspec import Struct
from msgspec.structs import replace

from penstock.core.device import CPU_SIDES, CPU_TILE_PX, GPU_SHAPES, TENSORRT_SIDES, Device
from penstock.errors import ConfigurationError
from penstock.lazy_import import lazy_import
from penstock.settings import WorkerSettings, visible_devices
from penstock.worker.devices.chosen import Choice, automatic, named
from penstock.worker.devices.machine import cache_directory, cores, is_wsl, memory
from penstock.worker.devices.nvidia_smi import Gpu, list_gpus

metadata = lazy_import("importlib.metadata")

TASKS_SHARE = 0.6
"""Share of the memory for the tasks in flight; the rest is for models, Redis, the API and the page cache."""

PINNED_BYTES, PINNED_WSL_BYTES = 2 * 1024**3, 512 * 1024**2
"""Memory of the host that one worker may page-lock for its GPU. The results of four batches of 8 tiles of 512 px, two
in flight and two that are accepted, are 0.4 GB in uint8 and 1.6 GB in fp32."""

GPU_RESERVE_BYTES = 1536 * 1024 * 1024
"""Memory of a GPU that no arena may take: the context and the workspaces of cuDNN need it."""

GPU_VARIABLES = {
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
}
"""Variables of workers with a GPU, unless the environment has others. NumPy's OpenBLAS starts up to 64 threads in each
process. Large pieces of memory come in huge pages (glibc 2.35 and later): results are taken in at 1,000 megapixels a
second and core instead of 350, the rest of which are page faults (measured on a virtual machine)."""

NO_TF32 = {"NVIDIA_TF32_OVERRIDE": "0"}
"""Forbids TF32 to the libraries of NVIDIA: in it SPAN makes other images of text and stripes. The option of ONNX
Runtime is not enough, since its convolutions fall back to TF32 where cuDNN has no other plan, and TensorRT has none."""


class Placement(Struct, frozen=True, kw_only=True):
    """One worker process: its device, and the environment variables with which it sees no other device."""

    device: Device
    environment: dict[str, str]
    lost: str = ""
    """Why the device cannot be used now; empty if it can."""


def placements(settings: WorkerSettings) -> list[Placement]:
    """Returns one placement for each worker process of this host, at least one of them on a device that can be used.

    It may take a minute. Raises ConfigurationError when a GPU is asked for that is not there, when none can be used, or
    when they cannot be used by what is installed.
    """
    places = list(_on_gpus(settings)) or [Placement(device=cpu(settings.threads), environment=_sees(""))]
    return [replace(place, device=_with_share(place.device, len(places), settings)) for place in places]


def found_again(settings: WorkerSettings, lost: Placement, taken: set[str]) -> Placement:
    """The placement of a device that was lost, as it is now, under the name that it had.

    `taken` are the names of the devices that others use, to which that of this one is added. Raises ConfigurationError
    while the device is still lost.
    """
    now = sorted(placements(settings), key=lambda place: place.device.name != lost.device.name)
    for place in now:
        if not place.lost and place.device.name not in taken:
            taken.add(place.device.name)
            return replace(place, device=replace(place.device, name=lost.device.name))
    raise ConfigurationError(now[0].lost or lost.lost)


def cpu(threads: int = 0) -> Device:
    """The CPU as a device; with `threads` 0 it has one thread for each core this process may use."""
    return Device(
        name="cpu",
        kind="cpu",
        threads=threads or cores(),
        streams=threads or cores(),
        sides=CPU_SIDES,
        any_side_to=CPU_TILE_PX,
        batches=(1,),
    )


def _with_share(device: Device, workers: int, settings: WorkerSettings) -> Device:
    """The device with its share of the host's cores and memory, from which what may be page-locked for a GPU is
    taken."""
    own_cores = max(1, cores() // workers)
    share = settings.memory_bytes or int(memory() * TASKS_SHARE / workers)
    if device.kind == "cpu":
        return replace(device, cores=own_cores, ram_bytes=share)
    usual = min(PINNED_WSL_BYTES if is_wsl() else PINNED_BYTES, share // 4)
    pinned = min(settings.pinned_bytes or usual, share // 2)
    return replace(device, cores=own_cores, ram_bytes=share - pinned, pinned_bytes=pinned)


def _on_gpus(settings: WorkerSettings) -> Iterator[Placement]:
    """Nothing where the CPU is used."""
    if settings.gpu_ids == "auto":
        if _has_gpu_runtime():
            yield from _placed(automatic(list_gpus(), visible_devices()), settings)
    elif settings.gpu_ids != "cpu":
        choices = named(list_gpus(), settings.gpu_ids)
        if not _has_gpu_runtime():
            raise ConfigurationError("worker.gpu_ids: asks for GPUs, but penstock-server[gpu] is not installed")
        yield from _placed(choices, settings)


def _placed(choices: list[Choice], settings: WorkerSettings) -> Iterator[Placement]:
    for choice in choices:
        for worker in range(choice.workers):
            place = "" if choice.workers == 1 else f".{worker}"
            yield _on_gpu(choice.gpu, place, 1 / choice.workers, settings)


def _on_gpu(gpu: Gpu, place: str, share: float, settings: WorkerSettings) -> Placement:
    device = Device(
        name=f"cuda:{gpu.number}{gpu.instance and f'.mig{gpu.instance}'}{place}",
        kind="cuda",
        threads=1,
        rectangles=() if settings.tensorrt else GPU_SHAPES,
        sides=TENSORRT_SIDES,
        batches=tuple(2**i for i in range(settings.max_batch.bit_length()) if 2**i <= settings.max_batch),
        precision=settings.precision,
        cuda_graphs=settings.cuda_graphs,
        tensorrt=settings.tensorrt,
        checks_warm_up=True,
        cuda_options=settings.cuda_options,
        cache_dir=settings.cache_dir or cache_directory(),
        engine_cache_dir=settings.engine_cache_dir,
        memory_limit_bytes=settings.gpu_memory_bytes or max(0, int(gpu.memory_bytes * share) - GPU_RESERVE_BYTES),
        share=share,
    )
    return Placement(device=device, environment=_sees(gpu.uuid) | NO_TF32, lost=gpu.trouble)


def _sees(uuid: str) -> dict[str, str]:
    """Nothing for a CPU, and for a GPU that is lost."""
    # By UUID: numbers are ordered differently by CUDA and by the driver's tools.
    return {"CUDA_VISIBLE_DEVICES": uuid, "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}


def _has_gpu_runtime() -> bool:
    return any(d.metadata["Name"] == "onnxruntime-gpu" for d in metadata.distributions(name="onnxruntime-gpu"))
