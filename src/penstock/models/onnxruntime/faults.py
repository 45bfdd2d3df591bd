"""Tells from the text of an error of ONNX Runtime what it means: its classes are private, and do not say.

The texts are those of onnxruntime-gpu 1.31.1. Most come from one format, `<library> failure <code>: <words> ; GPU=...`,
where the library is CUDA, CUBLAS, CUDNN, CUDNN_FE, CUFFT or CURAND; a kernel that cannot be launched says
`CUDA error <name>:<words>`; the rest is the arena's own.
"""

import re
from collections.abc import Callable

from penstock.errors import ConfigurationError, DeviceOutOfMemory
from penstock.models.base import DeviceBroken
from penstock.models.onnxruntime.identity import without_code
from penstock.models.onnxruntime.libraries import missing_library, said_plainly

_ESSENCE = re.compile(
    r"\bCU[A-Z_]+ failure -?\d+:[^;]*"
    r"|\bCUDA error \S+:.*"
    r"|cuDNN is unavailable.*"
    r"|CUDA Provider not available"
    r"|fallback to CPU EP has been explicitly disabled"
    r"|OP not supported by CUDNN Frontend.*"
)
"""The part of a text that means something to a person; the rest is C++."""

_DRIVER_TOO_OLD = r"CUDA failure (?:35|222):|cudaError(?:InsufficientDriver|UnsupportedPtxVersion)\b"
_DRIVER_MIXED = r"CUDA failure 80[34]:|cudaError(?:SystemDriverMismatch|CompatNotSupportedOnDevice)\b"
_NO_CARD = r"CUDA failure 10[01]:|cudaError(?:NoDevice|InvalidDevice)\b"
_NO_CODE = (
    r"CUDA failure (?:98|200|209):|cudaError(?:InvalidDeviceFunction|InvalidKernelImage|NoKernelImageForDevice)\b"
)
_NO_PROVIDER = r"fallback to CPU EP has been explicitly disabled|CUDA Provider not available"
_NO_CUDNN = r"cuDNN is unavailable"

_UNUSABLE = re.compile("|".join((_DRIVER_TOO_OLD, _DRIVER_MIXED, _NO_CARD, _NO_CODE, _NO_PROVIDER, _NO_CUDNN)))
"""What no other start of the process mends."""

_MEANINGS: tuple[tuple[str, Callable[[str], str]], ...] = (
    (_DRIVER_TOO_OLD, lambda _: "the NVIDIA driver is older than CUDA 13 needs, which is 580"),
    (_DRIVER_MIXED, lambda _: "the NVIDIA driver and its libraries are of different versions: restart the machine"),
    (_NO_CARD, lambda _: "this process sees no GPU"),
    (_NO_CODE, lambda _: without_code()),
    (_NO_PROVIDER, lambda _: missing_library()),
    (_NO_CUDNN, said_plainly),
)
"""What a text means -> a line for a person, which is made when it is needed; it may be empty."""

_UNSUPPORTED = re.compile(
    # The codes of cuDNN's frontend for a graph without a plan: the card is as well as before.
    r"CUDNN_FE failure (?:5|6|8|9|15):|OP not supported by CUDNN Frontend|\bNOT_IMPLEMENTED\b"
)

_OUT_OF_MEMORY = re.compile(
    r"out of memory"
    r"|Failed to allocate memory for requested buffer"
    r"|Available memory of \d+ is smaller than requested"  # the limit that gpu_mem_limit sets
    r"|Failed to find a free memory block"
    r"|DEVICE_ALLOCATION_FAILED"
    r"|bad_alloc|MemoryError|Cannot allocate memory"  # of the host
)

_BROKEN = re.compile(
    r"\bCU[A-Z_]+ failure -?\d+:"
    r"|\bCUDA error\b"
    r"|illegal memory access"
    r"|TensorRT EP execution context enqueue failed"
)


def of_run(error: Exception) -> Exception:
    """Translate the error of a run: to DeviceOutOfMemory, where a smaller batch may fit; to DeviceBroken, after which
    nothing runs in this process; else it is the error itself, which is about this input."""
    text = _text(error)
    if _OUT_OF_MEMORY.search(text):
        return DeviceOutOfMemory("the device could not hold this batch")
    if _BROKEN.search(text) and not _UNSUPPORTED.search(text):
        return DeviceBroken(_essence(text))
    return error


def of_load(error: Exception, what: str) -> Exception:
    """Translate the error of loading a model, or of its first run: to DeviceBroken where another start may succeed
    (another process held the memory, the driver was not ready), else to ConfigurationError. `what` begins the message,
    which is one line that names the cause."""
    text = _text(error)
    meant = error if isinstance(error, DeviceBroken) else of_run(error)
    if isinstance(meant, DeviceBroken | DeviceOutOfMemory) and not _UNUSABLE.search(text):
        return DeviceBroken(f"{what}: {_essence(text)}")
    return ConfigurationError(f"{what}: {_explained(text)}")


def _text(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


def _explained(text: str) -> str:
    meanings = [line for pattern, meaning in _MEANINGS if re.search(pattern, text) and (line := meaning(text))]
    return f"{meanings[0]} ({_essence(text)})" if meanings else _essence(text)


def _essence(text: str) -> str:
    found = _ESSENCE.search(text)
    return found[0].strip() if found else text
