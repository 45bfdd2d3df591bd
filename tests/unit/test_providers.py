"""Provider options for every device that settings can make: the whole table, not a sample."""

from itertools import product

import pytest

from penstock.core.device import Device
from penstock.models.onnxruntime.providers import engine_directory, setup

BASE = {
    "device_id": "0",
    "cudnn_conv_algo_search": "HEURISTIC",
    "arena_extend_strategy": "kSameAsRequested",
    "use_tf32": "0",
}
HALF = BASE | {"use_tf32": "1"}
"""Without TF32 a session of fp16 would be given no plan that uses tensor cores."""

LIMIT = {"gpu_mem_limit": "1000000"}
GRAPHS = {"enable_cuda_graph": "1"}


def tensorrt(fp16: str) -> dict[str, str]:
    return {
        "device_id": "0",
        "trt_fp16_enable": fp16,
        "trt_engine_cache_enable": "True",
        "trt_engine_cache_path": "/cache",
        "trt_timing_cache_enable": "True",
        "trt_timing_cache_path": "/cache",
        "trt_profile_min_shapes": "image:1x3x96x128",
        "trt_profile_opt_shapes": "image:8x3x256x512",
        "trt_profile_max_shapes": "image:8x3x256x512",
    }


CUDA = "CUDAExecutionProvider"
TENSORRT = "TensorrtExecutionProvider"

TABLE = {
    # (tensorrt, graphs, limit, fp16): providers in order
    (False, False, 0, False): [(CUDA, BASE)],
    (False, False, 0, True): [(CUDA, HALF)],
    (False, False, 1_000_000, False): [(CUDA, BASE | LIMIT)],
    (False, False, 1_000_000, True): [(CUDA, HALF | LIMIT)],
    (False, True, 0, False): [(CUDA, BASE | GRAPHS)],
    (False, True, 0, True): [(CUDA, HALF | GRAPHS)],
    (False, True, 1_000_000, False): [(CUDA, BASE | LIMIT | GRAPHS)],
    (False, True, 1_000_000, True): [(CUDA, HALF | LIMIT | GRAPHS)],
    (True, False, 0, False): [(TENSORRT, tensorrt("False")), (CUDA, BASE)],
    (True, False, 0, True): [(TENSORRT, tensorrt("True")), (CUDA, HALF)],
    (True, False, 1_000_000, False): [(TENSORRT, tensorrt("False")), (CUDA, BASE | LIMIT)],
    (True, False, 1_000_000, True): [(TENSORRT, tensorrt("True")), (CUDA, HALF | LIMIT)],
}
"""Without TensorRT together with graphs, which the settings refuse."""


SHAPES = ((96, 128), (192, 192), (256, 512))


def device(**more: object) -> Device:
    fields = {"name": "cuda:1", "kind": "cuda", "threads": 1, "batches": (1, 2, 8), "bound": True}
    return Device(sides=(96, 512), **(fields | more))  # type: ignore[arg-type]


def test_the_table_has_every_combination() -> None:
    every = set(product((False, True), (False, True), (0, 1_000_000), (False, True)))

    assert {row for row in every if not (row[0] and row[1])} == TABLE.keys()


@pytest.mark.parametrize("row", sorted(TABLE), ids=str)
def test_a_gpu_gets_the_options_of_the_table(row: tuple[bool, bool, int, bool]) -> None:
    by_tensorrt, graphs, limit, fp16 = row
    on = device(tensorrt=by_tensorrt, cuda_graphs=graphs, memory_limit_bytes=limit)

    made = setup(on, fp16=fp16, shapes=SHAPES, engines="/cache")

    assert list(made.providers) == TABLE[row]
    assert made.entries["session.disable_cpu_ep_fallback"] == "1"


@pytest.mark.parametrize("row", sorted(TABLE), ids=str)
def test_a_cpu_gets_no_option_of_a_gpu_whatever_is_set(row: tuple[bool, bool, int, bool]) -> None:
    by_tensorrt, graphs, limit, fp16 = row
    on = device(kind="cpu", tensorrt=by_tensorrt, cuda_graphs=graphs, memory_limit_bytes=limit)

    made = setup(on, fp16=fp16, shapes=SHAPES, engines="/cache")

    assert made.providers == (("CPUExecutionProvider", {}),)
    assert "session.disable_cpu_ep_fallback" not in made.entries


def test_no_two_models_runtimes_or_devices_share_a_directory_of_engines() -> None:
    on = [device(engine_cache_dir="/cache", name=name) for name in ("cuda:0", "cuda:1")]

    paths = {engine_directory(d, digest * 64, v) for d, digest, v in product(on, "ab", ("1.31.1", "1.32.0"))}

    assert len(paths) == 8
    assert "/cache/aaaaaaaaaaaaaaaa-ort1.31.1-cuda0" in paths
