"""The execution providers of a session and their options: a pure function of the device and the file.

Names and values are those of ONNX Runtime 1.31: TensorRT's truth values must be the words `True` and `False`, and every
unknown name is refused by CUDA's parser.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from msgspec import Struct

from penstock.core.device import Device

INPUT = "image"
"""The input of every file in the manifest: (batch, height, width, 3) in uint8."""

CPU, CUDA, TENSORRT = "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"


class Setup(Struct, frozen=True, kw_only=True):
    """The arguments of a session. The first provider is the one that must be used."""

    providers: tuple[tuple[str, dict[str, str]], ...]
    entries: dict[str, str]
    """Entries of the session's configuration."""
    cpu_nodes: bool | None = None
    """Whether nodes may run on the CPU beside the first provider: all, none, or with None those that are cheap."""


def setup(
    device: Device,
    *,
    fp16: bool,
    shapes: Sequence[tuple[int, int]],
    engines: str,
    options: Mapping[str, str] = MappingProxyType({}),
    stream: int = 0,
    graph_bytes: int = 0,
    cpu_nodes: bool | None = False,
) -> Setup:
    """The setup for a file in fp16 or not, whose tiles will have these (height, width).

    `engines` is the directory of TensorRT's caches; only TensorRT uses it. `options` are more options of CUDA, and
    `stream` is the address of the stream of all sessions; 0 lets each have its own. A session for a CUDA graph has an
    arena of its own, of at most `graph_bytes`; with 0 a session is for no graph. For `cpu_nodes` see `Setup`.
    """
    if device.kind == "cpu":
        # One arena for all sessions: each of its own would keep its largest run (measured: 430 MiB instead of 700).
        return Setup(providers=((CPU, {}),), entries=_ENTRIES | _SHARED, cpu_nodes=True)
    cuda = (CUDA, {**_cuda(fp16, graph_bytes, 0 if device.tensorrt else stream), **options})
    providers = ((TENSORRT, _tensorrt(device, fp16, shapes, engines)), cuda) if device.tensorrt else (cuda,)
    # A graph writes to the same addresses at each replay, which the arena of all sessions has given to others by then.
    arena = {} if graph_bytes else _SHARED
    strict = _STRICT if cpu_nodes is False else {}
    return Setup(providers=providers, entries=_ENTRIES | _GPU | strict | arena, cpu_nodes=cpu_nodes)


def engine_directory(device: Device, sha256: str, runtime_version: str) -> str:
    """The directory for the engines of one model, runtime and device."""
    # Engines fit nothing else. TensorRT does not write them atomically, so that no two processes may share one.
    return str(Path(device.engine_cache_dir) / f"{sha256[:16]}-ort{runtime_version}-{device.name.replace(':', '')}")


_ENTRIES = {
    # Spinning threads burn the cores that decode and encode (measured: 3 x the CPU time, no faster).
    "session.intra_op.allow_spinning": "0",
    # Which provider has which node: a provider may be listed and have none.
    "session.record_ep_graph_assignment_info": "1",
    # No folder: the runtime would else take external data that it is not given from the working directory.
    "session.model_external_initializers_file_folder_path": "/dev/null",
}

_SHARED = {"session.use_env_allocators": "1"}
"""Memory comes from the arenas that `runtime` has registered for all sessions of the process."""

_STRICT = {"session.disable_cpu_ep_fallback": "1"}

_GPU = {
    # Weights in the arena would lie in the middle of the memory of the largest batches and keep it in pieces.
    "session.use_device_allocator_for_initializers": "1",
}


def _cuda(fp16: bool, graph_bytes: int, stream: int) -> dict[str, str]:
    options = {
        # The process sees one device only (CUDA_VISIBLE_DEVICES), so that it is always number 0.
        "device_id": "0",
        # The heuristic search costs 2 ms a new shape, the exhaustive one 600.
        "cudnn_conv_algo_search": "HEURISTIC",
        # It rounds the inputs of fp32 convolutions to 11 bits, which SPAN cannot bear (docs/how-to/tune-a-gpu.md). A
        # session without it is given no plan that uses tensor cores, whatever the type of its values.
        "use_tf32": "1" if fp16 else "0",
    }
    if stream:
        # What one session frees in the arena, another may use at once only behind it in the same stream. It also saves
        # handles of cuBLAS and cuDNN: a stream of its own would bring a second pair to each session.
        options["user_compute_stream"] = str(stream)
    if graph_bytes:
        # Power-of-two arenas waste up to half the memory.
        options |= {"enable_cuda_graph": "1", "gpu_mem_limit": str(graph_bytes)}
        options["arena_extend_strategy"] = "kSameAsRequested"
    return options


def _tensorrt(device: Device, fp16: bool, shapes: Sequence[tuple[int, int]], engines: str) -> dict[str, str]:
    heights, widths = zip(*shapes, strict=True)
    largest = _shape(device.batches[-1], max(heights), max(widths))
    return {
        "device_id": "0",
        "trt_fp16_enable": str(fp16),
        "trt_engine_cache_enable": "True",
        "trt_engine_cache_path": engines,
        "trt_timing_cache_enable": "True",
        "trt_timing_cache_path": engines,
        # Without a profile an engine is built anew, for minutes, whenever a shape leaves those seen before.
        "trt_profile_min_shapes": _shape(device.batches[0], min(heights), min(widths)),
        "trt_profile_opt_shapes": largest,
        "trt_profile_max_shapes": largest,
    }


def _shape(batch: int, height: int, width: int) -> str:
    return f"{INPUT}:{batch}x{height}x{width}x3"
