"""Provider options for every device that settings can make: the whole table, not a sample."""

from itertools import product

import pytest

from penstock.core.device import Device
from penstock.models.onnxruntime.providers import engine_directory, setup

BASE = {"device_id": "0", "cudnn_conv_algo_search": "HEURISTIC", "use_tf32": "0"}
HALF = BASE | {"use_tf32": "1"}
"""Without TF32 a session of fp16 would be given no plan that uses tensor cores."""

STREAM = {"user_compute_stream": "4096"}
GRAPHS = {"enable_cuda_graph": "1", "gpu_mem_limit": "1000000", "arena_extend_strategy": "kSameAsRequested"}
"""The options of an arena of its own; the arena of the card has those of `runtime.register_cuda_arena`."""


def tensorrt(fp16: str) -> dict[str, str]:
    return {
        "device_id": "0",
        "trt_fp16_enable": fp16,
        "trt_engine_cache_enable": "True",
        "trt_engine_cache_path": "/cache",
        "trt_timing_cache_enable": "True",
        "trt_timing_cache_path": "/cache",
        "trt_profile_min_shapes": "image:1x96x128x3",
        "trt_profile_opt_shapes": "image:8x256x512x3",
        "trt_profile_max_shapes": "image:8x256x512x3",
    }


CUDA = "CUDAExecutionProvider"
TENSORRT = "TensorrtExecutionProvider"

TABLE = {
    # (tensorrt, graph, fp16): providers in order
    (False, False, False): [(CUDA, BASE | STREAM)],
    (False, False, True): [(CUDA, HALF | STREAM)],
    (False, True, False): [(CUDA, BASE | STREAM | GRAPHS)],
    (False, True, True): [(CUDA, HALF | STREAM | GRAPHS)],
    (True, False, False): [(TENSORRT, tensorrt("False")), (CUDA, BASE)],
    (True, False, True): [(TENSORRT, tensorrt("True")), (CUDA, HALF)],
}
"""Without TensorRT together with graphs, which the settings refuse."""


SHAPES = ((96, 128), (192, 192), (256, 512))


def device(**more: object) -> Device:
    fields = {"name": "cuda:1", "kind": "cuda", "threads": 1, "batches": (1, 2, 8)}
    return Device(sides=(96, 512), **(fields | more))  # type: ignore[arg-type]


def test_the_table_has_every_combination() -> None:
    every = set(product((False, True), repeat=3))

    assert {row for row in every if not (row[0] and row[1])} == TABLE.keys()


@pytest.mark.parametrize("row", sorted(TABLE), ids=str)
def test_a_gpu_gets_the_options_of_the_table(row: tuple[bool, bool, bool]) -> None:
    by_tensorrt, graph, fp16 = row
    limit = 1_000_000 if graph else 0

    made = setup(
        device(tensorrt=by_tensorrt), fp16=fp16, shapes=SHAPES, engines="/cache", stream=4096, graph_bytes=limit
    )

    assert list(made.providers) == TABLE[row]
    assert made.entries["session.disable_cpu_ep_fallback"] == "1"
    assert ("session.use_env_allocators" in made.entries) is not graph, "a graph has an arena of its own"


def test_more_options_for_cuda_are_added_to_its_own_and_go_before_them() -> None:
    more = {"prefer_nhwc": "1", "use_tf32": "0"}

    ((_, options),) = setup(device(), fp16=True, shapes=SHAPES, engines="", options=more).providers

    assert options == HALF | more


@pytest.mark.parametrize("by_tensorrt", [False, True])
def test_a_cpu_gets_no_option_of_a_gpu_whatever_is_set(by_tensorrt: bool) -> None:
    on = device(kind="cpu", tensorrt=by_tensorrt, cuda_graphs=True, memory_limit_bytes=1)

    made = setup(on, fp16=True, shapes=SHAPES, engines="/cache", options={"prefer_nhwc": "1"}, stream=4096)

    assert made.providers == (("CPUExecutionProvider", {}),)
    assert made.entries["session.use_env_allocators"] == "1", "one arena for all sessions"
    assert "session.disable_cpu_ep_fallback" not in made.entries


def test_no_two_models_runtimes_or_devices_share_a_directory_of_engines() -> None:
    on = [device(engine_cache_dir="/cache", name=name) for name in ("cuda:0", "cuda:1")]

    paths = {engine_directory(d, digest * 64, v) for d, digest, v in product(on, "ab", ("1.31.1", "1.32.0"))}

    assert len(paths) == 8
    assert "/cache/aaaaaaaaaaaaaaaa-ort1.31.1-cuda0" in paths
