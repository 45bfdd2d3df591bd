"""Tells from the text of an error of ONNX Runtime what it means: its classes are private, and do not say.

The texts are those of onnxruntime-gpu 1.31.1. Most come from one format, `<library> failure <code>: <words> ; GPU=...`,
where the library is CUDA, CUBLAS, CUDNN, CUDNN_FE, CUFFT or CURAND; a kernel that cannot be launched says
`CUDA error <name>:<words>`; the rest is the arena's own.
"""

import re

from penstock.errors import ConfigurationError, DeviceOutOfMemory
from penstock.models.base import DeviceBroken

_ESSENCE = re.compile(r"\bCU[A-Z_]+ failure -?\d+:[^;]*|\bCUDA error \S+:.*")
"""The part of a text that means something to a person; the rest is C++."""

_UNUSABLE = re.compile(
    # Driver too old (35) or wrong (803, 804), no such device (100, 101), no code for its generation (209, 222).
    r"CUDA failure (?:35|100|101|209|222|803|804):"
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
    if _BROKEN.search(text):
        return DeviceBroken(_essence(text))
    return error


def of_load(error: Exception, what: str) -> Exception:
    """Translate the error of loading a model: to DeviceBroken where another start may succeed (another process held the
    memory, the driver was not ready), else to ConfigurationError. `what` begins the message."""
    text = _text(error)
    passing = _OUT_OF_MEMORY.search(text) or _BROKEN.search(text)
    if passing and not _UNUSABLE.search(text):
        return DeviceBroken(f"{what}: {_essence(text)}")
    return ConfigurationError(f"{what}: {_essence(text)}")


def _text(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


def _essence(text: str) -> str:
    found = _ESSENCE.search(text)
    return found[0].strip() if found else text
