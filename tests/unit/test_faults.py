"""Every text by which the runtime says that something is wrong with the device, and what becomes of it.

Most texts were taken from onnxruntime-gpu 1.31.1 itself, run against stand-ins for the CUDA libraries that answer with
the code in question; the rest are put together from the formats in its libraries.
"""

import pytest

from penstock.errors import ConfigurationError, DeviceOutOfMemory
from penstock.models.base import DeviceBroken
from penstock.models.onnxruntime import faults

WHERE = "; GPU=0 ; hostname=h ; file=/onnxruntime_src/onnxruntime/core/providers/cuda/cuda_call.cc ; line=1 ; expr=f() "
NODE = (
    "[ONNXRuntimeError] : 1 : FAIL : Non-zero status code returned while running Conv node. Name:'x' Status Message: "
)
ARENA = (
    "/onnxruntime_src/onnxruntime/core/framework/bfc_arena.cc:360 "
    "void* onnxruntime::BFCArena::AllocateRawInternal(size_t, bool, onnxruntime::Stream*) "
)

OUT_OF_MEMORY = [
    f"{NODE}{ARENA}Failed to allocate memory for requested buffer of size 1572864",
    f"{NODE}{ARENA}Available memory of 851200 is smaller than requested bytes of 1572864",
    f"{ARENA}Failed to find a free memory block despite calling Extend. rounded_bytes=256",
    f"CUDA failure 2: out of memory {WHERE}",
    f"{NODE}CUDA error cudaErrorMemoryAllocation:out of memory",
    f"{NODE}CUDNN failure 4002: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED {WHERE}",
    f"{NODE}std::bad_alloc",
    "[Errno 12] Cannot allocate memory",
]

BROKEN = [
    f"{NODE}CUDA failure 700: an illegal memory access was encountered {WHERE}",
    f"{NODE}CUDA failure 719: unspecified launch failure {WHERE}",
    f"{NODE}CUDA failure 214: uncorrectable ECC error encountered {WHERE}",
    f"{NODE}CUDA failure 999: unknown error {WHERE}",
    f"{NODE}CUDA error cudaErrorIllegalAddress:an illegal memory access was encountered",
    f"{NODE}CUBLAS failure 3: the resource allocation failed {WHERE}",
    f"{NODE}CUBLAS failure 13: the GPU program failed to execute {WHERE}",
    f"{NODE}CUDNN failure 5000: CUDNN_STATUS_EXECUTION_FAILED {WHERE}",
    f"{NODE}CUDNN_FE failure 11: CUDNN_BACKEND_API_FAILED {WHERE}",
    f"{NODE}CUFFT failure 5: CUFFT_INTERNAL_ERROR {WHERE}",
    f"{NODE}CURAND failure 201: CURAND_STATUS_LAUNCH_FAILURE {WHERE}",
    "[ONNXRuntimeError] : 11 : EP_FAIL : TensorRT EP execution context enqueue failed.",
]

ABOUT_THE_INPUT = [
    "[ONNXRuntimeError] : 2 : INVALID_ARGUMENT : Got invalid dimensions for input: image for the following indices",
    f"{NODE}cannot broadcast dim",
]

NO_CUDNN = (
    "/onnxruntime_src/onnxruntime/core/providers/cuda/cuda_kernel.h:296 static cudnnContext* "
    "onnxruntime::cuda::CudaKernel::RequireCudnnHandle(cudnnHandle_t) [ONNXRuntimeError] : 9 : NOT_IMPLEMENTED : cuDNN "
    "is unavailable or disabled for CUDA Execution Provider: dlopen failed for libcudnn.so: libcudnn.so: cannot open "
    "shared object file: No such file or directory"
)

FRONTEND = "/onnxruntime_src/onnxruntime/core/providers/cuda/cudnn_fe_call.cc:109 onnxruntime::CudaCall(ERRTYPE) "
UNSUPPORTED = [
    f"{NODE}Failed to initialize CUDNN Frontend: {FRONTEND}CUDNN_FE failure 8: HEURISTIC_QUERY_FAILED {WHERE}",
    f"{NODE}OP not supported by CUDNN Frontend{FRONTEND}CUDNN_FE failure 6: PLAN_CREATION_FAILED {WHERE}",
    f"{NODE}OP not supported by CUDNN Frontend{FRONTEND}CUDNN_FE failure 5: GRAPH_NOT_SUPPORTED {WHERE}",
    "[ONNXRuntimeError] : 9 : NOT_IMPLEMENTED : Could not find an implementation for Conv(11) node with name 'x'",
]
"""A file that a card cannot run, though it is as well as before."""

UNUSABLE = [
    f"CUDA failure 35: CUDA driver version is insufficient for CUDA runtime version {WHERE}",
    f"CUDA failure 100: no CUDA-capable device is detected {WHERE}",
    f"CUDA failure 101: invalid device ordinal {WHERE}",
    f"CUDA failure 209: no kernel image is available for execution on the device {WHERE}",
    f"CUDA failure 222: the provided PTX was compiled with an unsupported toolchain {WHERE}",
    f"CUDA failure 803: system has unsupported display driver / cuda driver combination {WHERE}",
    f"CUDA failure 804: forward compatibility was attempted on non supported HW {WHERE}",
    f"{NODE}CUDA error cudaErrorNoKernelImageForDevice:no kernel image is available for execution on the device",
    f"{NODE}CUDA error cudaErrorUnsupportedPtxVersion:the provided PTX was compiled with an unsupported toolchain.",
    f"{NODE}CUDA error cudaErrorInsufficientDriver:CUDA driver version is insufficient for CUDA runtime version",
    f"{NODE}CUDA error cudaErrorNoDevice:no CUDA-capable device is detected",
    f"{NODE}{NO_CUDNN}",
    *UNSUPPORTED,
    "Please install TensorRT libraries as mentioned in the GPU requirements page, and that your GPU is supported.",
    "This session contains graph nodes that are assigned to the default CPU EP, but fallback to CPU EP has been "
    "explicitly disabled by the user.",
    "This session cannot use the graph capture feature as requested by the user",
]


@pytest.mark.parametrize("text", OUT_OF_MEMORY)
def test_a_batch_that_is_too_large_may_be_tried_smaller(text: str) -> None:
    assert isinstance(faults.of_run(RuntimeError(text)), DeviceOutOfMemory)


def test_memory_of_the_host_counts_as_well() -> None:
    assert isinstance(faults.of_run(MemoryError()), DeviceOutOfMemory)


@pytest.mark.parametrize("text", BROKEN)
def test_a_lost_device_ends_the_process(text: str) -> None:
    assert isinstance(faults.of_run(RuntimeError(text)), DeviceBroken)


@pytest.mark.parametrize("text", ABOUT_THE_INPUT)
def test_an_error_about_the_input_stays_itself(text: str) -> None:
    error = RuntimeError(text)

    assert faults.of_run(error) is error


@pytest.mark.parametrize("text", [*UNSUPPORTED, f"{NODE}{NO_CUDNN}"])
def test_an_operation_that_the_card_cannot_do_is_no_lost_device(text: str) -> None:
    error = RuntimeError(text)

    assert faults.of_run(error) is error


@pytest.mark.parametrize("text", UNUSABLE)
def test_a_device_that_can_never_be_used_is_a_matter_of_configuration(text: str) -> None:
    assert isinstance(faults.of_load(RuntimeError(text), "m.onnx cannot run on cuda:0"), ConfigurationError)


@pytest.mark.parametrize("text", [*OUT_OF_MEMORY, *BROKEN, f"CUDA failure 802: system not yet initialized {WHERE}"])
def test_what_may_pass_at_load_is_worth_another_start(text: str) -> None:
    assert isinstance(faults.of_load(RuntimeError(text), "m.onnx cannot run on cuda:0"), DeviceBroken)


def test_a_person_reads_one_line_without_the_insides_of_the_runtime() -> None:
    text = f"/onnxruntime_src/x.cc:154 void f() [with T = int]\n CUDA failure 100: no CUDA-capable device {WHERE}\n\n"

    said = str(faults.of_load(RuntimeError(text), "m.onnx cannot run on cuda:0"))

    assert said == "m.onnx cannot run on cuda:0: this process sees no GPU (CUDA failure 100: no CUDA-capable device)"


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        (
            f"CUDA failure 35: CUDA driver version is insufficient {WHERE}",
            "the NVIDIA driver is older than CUDA 13 needs",
        ),
        (f"CUDA failure 803: unsupported driver combination {WHERE}", "restart the machine"),
        (f"{NODE}CUDA error cudaErrorNoDevice:none", "this process sees no GPU"),
        (f"{NODE}CUDA error cudaErrorNoKernelImageForDevice:none", "has code for compute capability 7.5, 8.0, 8.6"),
        (f"{NODE}{NO_CUDNN}", "libcudnn.so is missing: install cuDNN 9"),
    ],
    ids=["old driver", "mixed driver", "no card", "no code", "no cuDNN"],
)
def test_the_cause_stands_first_in_words_that_say_what_to_do(text: str, cause: str) -> None:
    said = str(faults.of_load(RuntimeError(text), "m.onnx on cuda:0"))

    assert said.startswith("m.onnx on cuda:0: ")
    assert cause in said.split(" (")[0]
    assert "\n" not in said
    assert "onnxruntime_src" not in said


def test_a_first_run_that_found_the_device_broken_or_full_is_worth_another_start() -> None:
    for error in (DeviceBroken("a run does not stop"), DeviceOutOfMemory("the device could not hold this batch")):
        assert isinstance(faults.of_load(error, "m.onnx on cuda:0"), DeviceBroken)


def test_a_first_run_on_a_card_without_code_is_not() -> None:
    broken = faults.of_run(RuntimeError(f"{NODE}CUDA error cudaErrorNoKernelImageForDevice:none"))

    assert isinstance(broken, DeviceBroken)
    assert isinstance(faults.of_load(broken, "m.onnx on cuda:0"), ConfigurationError)
