"""The CUDA runtime that ONNX Runtime has loaded into this process, called through ctypes.

Only what the runtime's own Python interface cannot do: page-locks, copies beside a run, and what the card and its
driver are. The numbers are those of `driver_types.h` of CUDA 13.
"""

from __future__ import annotations

import ctypes
from functools import cache
from typing import NamedTuple

from penstock.models.onnxruntime.libraries import loaded_library

DEVICE_TO_HOST = 2
NON_BLOCKING = 1
"""A stream with this flag does not wait for the default stream, nor that for it."""

CAPABILITY_MAJOR, CAPABILITY_MINOR = 75, 76
"""Numbers of two attributes of a device."""


PROPERTIES_BYTES = 4096
"""More than `cudaDeviceProp` of any version has. It begins with the name of the card."""


class DeviceMemory(NamedTuple):
    """Bytes of the memory of a card, of everybody who uses it."""

    free: int
    total: int


class CudaRuntime:
    """The functions of a loaded libcudart. All may be called on any thread; the process sees one device."""

    def __init__(self, path: str) -> None:
        cuda = self._cuda = ctypes.CDLL(path)
        address, size, flags = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_uint
        cuda.cudaHostRegister.argtypes = (address, size, flags)
        cuda.cudaHostUnregister.argtypes = (address,)
        cuda.cudaMemcpyAsync.argtypes = (address, address, size, ctypes.c_int, ctypes.c_void_p)
        cuda.cudaStreamSynchronize.argtypes = (ctypes.c_void_p,)
        cuda.cudaGetErrorName.restype = ctypes.c_char_p
        cuda.cudaGetErrorString.restype = ctypes.c_char_p

    def lock_pages(self, address: int, size: int) -> int:
        """Page-lock host memory. Returns 0, or the status with which the driver refuses."""
        return self._asked(self._cuda.cudaHostRegister(address, size, 0))

    def unlock_pages(self, address: int) -> int:
        """Undo a `lock_pages` that returned 0."""
        return self._asked(self._cuda.cudaHostUnregister(address))

    def memory(self) -> DeviceMemory:
        """The memory of the card now. Raises RuntimeError."""
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        self._done(self._cuda.cudaMemGetInfo(ctypes.byref(free), ctypes.byref(total)))
        return DeviceMemory(free.value, total.value)

    def compute_capability(self) -> tuple[int, int]:
        """Generation of the card, such as (8, 6). Raises RuntimeError."""
        major, minor = (self._attribute(number) for number in (CAPABILITY_MAJOR, CAPABILITY_MINOR))
        return major, minor

    def device_name(self) -> str:
        """The name of the card, such as "NVIDIA L4". Raises RuntimeError."""
        properties = ctypes.create_string_buffer(PROPERTIES_BYTES)
        # CUDA 12 kept the old layout under the old name.
        ask = getattr(self._cuda, "cudaGetDeviceProperties_v2", None) or self._cuda.cudaGetDeviceProperties
        self._done(ask(properties, 0))
        return properties.value.decode(errors="replace")

    def driver_version(self) -> tuple[int, int]:
        """The newest CUDA that the driver can serve, such as (13, 0). Raises RuntimeError."""
        return self._version(self._cuda.cudaDriverGetVersion)

    def runtime_version(self) -> tuple[int, int]:
        """The version of this library, such as (13, 5). Raises RuntimeError."""
        return self._version(self._cuda.cudaRuntimeGetVersion)

    def new_stream(self) -> ctypes.c_void_p:
        """A stream for `copy_to_host`, which lives as long as the process. Raises RuntimeError."""
        stream = ctypes.c_void_p()
        self._done(self._cuda.cudaStreamCreateWithFlags(ctypes.byref(stream), ctypes.c_uint(NON_BLOCKING)))
        return stream

    def allocate(self, size: int) -> int:
        """The address of so many bytes of the card's memory. Raises RuntimeError in the runtime's own words."""
        address = ctypes.c_void_p()
        self._done(self._cuda.cudaMalloc(ctypes.byref(address), ctypes.c_size_t(size)))
        return address.value or 0

    def free(self, address: int) -> None:
        """Give back what `allocate` returned. Raises RuntimeError in the runtime's own words."""
        self._done(self._cuda.cudaFree(ctypes.c_void_p(address)))

    def copy_to_host(self, host: int, device: int, size: int, stream: ctypes.c_void_p) -> None:
        """Copy bytes from the device beside what other streams compute, and wait for the end, without the interpreter's
        lock. Only page-locked memory is written without a detour. Raises RuntimeError in the runtime's own words."""
        self._done(self._cuda.cudaMemcpyAsync(host, device, size, DEVICE_TO_HOST, stream))
        self._done(self._cuda.cudaStreamSynchronize(stream))

    def _attribute(self, number: int) -> int:
        value = ctypes.c_int()
        self._done(self._cuda.cudaDeviceGetAttribute(ctypes.byref(value), number, 0))
        return value.value

    def _version(self, ask: ctypes._NamedFuncPointer) -> tuple[int, int]:
        value = ctypes.c_int()
        self._done(ask(ctypes.byref(value)))
        return value.value // 1000, value.value % 1000 // 10

    def _asked(self, status: int) -> int:
        # A refusal stays as the last error of this thread, and the next run would take it for its own.
        if status:
            self._cuda.cudaGetLastError()
        return status

    def _done(self, status: int) -> None:
        if self._asked(status):
            name, words = (ask(status).decode() for ask in (self._cuda.cudaGetErrorName, self._cuda.cudaGetErrorString))
            raise RuntimeError(f"CUDA failure {status}: {words} ({name})")


def cuda_runtime() -> CudaRuntime | None:
    """The CUDA runtime of this process; None while none is loaded: a session must have been opened before."""
    path = loaded_library("libcudart.so")
    return _runtime_at(path) if path else None


@cache
def _runtime_at(path: str) -> CudaRuntime:
    return CudaRuntime(path)
