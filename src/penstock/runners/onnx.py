"""ONNX Runtime, in one place: verified model files, one device, no silent fall-back, runs that can be stopped."""

import hashlib
import os
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import metadata, resources
from threading import Lock
from typing import Any, Literal

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from penstock.errors import ConfigurationError, DeviceOutOfMemory
from penstock.runners.base import Device, DeviceBroken, Interrupted

_OUT_OF_MEMORY = ("out of memory", "Failed to allocate memory", "CUDA_ERROR_OUT_OF_MEMORY", "BFCArena")
_BROKEN = ("CUDA failure", "CUDNN failure", "CUBLAS failure", "CUDA error", "illegal memory access")


class ModelFile(Struct, frozen=True, kw_only=True):
    """One row of the manifest: what ships, where it came from, and what it must hash to.

    Every file takes `image`, (batch, 3, height, width) of 0..1 in fp32, and gives fp32. One whose arithmetic is in
    fp16 may differ from its fp32 twin by `tolerance` in any output value.
    """

    name: str
    variant: str
    version: str
    precision: Literal["fp32", "fp16"] = "fp32"
    tolerance: float = 0.0
    file: str
    sha256: str
    bytes: int
    licence: str
    source: str
    scale: int = 1
    overlap_px: int = 0


def manifest() -> dict[tuple[str, str], ModelFile]:
    """(model, variant) -> its file in fp32."""
    return {(row.name, row.variant): row for row in _rows() if row.precision == "fp32"}


def half(file: ModelFile) -> ModelFile | None:
    """The same network in fp16 arithmetic, where there is one."""
    twins = [r for r in _rows() if (r.name, r.variant, r.precision) == (file.name, file.variant, "fp16")]
    return twins[0] if twins else None


@cache
def _rows() -> list[ModelFile]:
    text = (resources.files("penstock.models") / "manifest.toml").read_text()
    return msgspec.convert(tomllib.loads(text)["model"], list[ModelFile])


class Session:
    """One model file on one device. `run` belongs to the device threads; `interrupt` may come from any.

    On a device of several streams it has two gears: a run that is alone in the process uses every thread of the
    device, runs that meet use their share each.
    """

    def __init__(self, file: ModelFile, device: Device) -> None:
        """Raises ConfigurationError when the file is not the one in the manifest, or the device asked for is not
        the one that the runtime would use."""
        data = _verified(file)
        self._alone = _session(data, file, device, threads=device.threads)
        self._meeting = self._alone
        if device.streams > 1:
            self._meeting = _session(data, file, device, threads=max(1, device.threads // device.streams))
        self._outputs = [o.name for o in self._alone.get_outputs()]
        self._input = self._alone.get_inputs()[0].name
        self._ort = _runtime()
        self._lock = Lock()
        self._running: dict[Any, object] = {}

    def run(self, tiles: NDArray[np.float32], *, owner: object = None) -> list[NDArray[Any]]:
        """All outputs for one batch; `owner` names the run to `interrupt`.

        Raises Interrupted, DeviceOutOfMemory, DeviceBroken.
        """
        options = self._ort.RunOptions()  # a terminated one stays so: a new one for each run
        with self._lock:
            self._running[options] = owner
        try:
            with _counted() as others:
                session = self._meeting if others else self._alone
                return list(session.run(self._outputs, {self._input: tiles}, options))
        except Exception as error:  # the runtime's own classes are private
            raise _translated(error, stopped=options.terminate) from error
        finally:
            with self._lock:
                del self._running[options]

    def interrupt(self, owner: object = None) -> None:
        """Make the present runs of this owner raise Interrupted at their next node."""
        with self._lock:
            for options in [o for o, its_owner in self._running.items() if its_owner is owner]:
                options.terminate = True


_runs = 0
_runs_lock = Lock()


@contextmanager
def _counted() -> Iterator[int]:
    """How many other runs this process has at the moment: it has one device."""
    global _runs
    with _runs_lock:
        others, _runs = _runs, _runs + 1
    try:
        yield others
    finally:
        with _runs_lock:
            _runs -= 1


def _session(data: bytes, file: ModelFile, device: Device, *, threads: int) -> Any:
    ort = _runtime()
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Spinning threads burn the cores that decode and encode (measured: 3 x the CPU time, no faster).
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # A plan of memory for each input shape would be kept for ever.
    options.enable_mem_pattern = False
    if device.kind == "cuda":
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    else:
        # One arena for all sessions: each of its own would keep its largest run (measured: 430 MiB instead of 700).
        options.add_session_config_entry("session.use_env_allocators", "1")
    try:
        session = ort.InferenceSession(data, options, providers=[_provider(device)], enable_fallback=0)
    except Exception as error:  # the runtime's own classes are private
        raise ConfigurationError(f"{file.file} cannot run on {device.name}: {error}") from error
    used = session.get_providers()[0]
    if used != _provider(device)[0]:
        raise ConfigurationError(f"{device.name} was asked for, but ONNX Runtime would use {used}")
    return session


@cache
def _runtime() -> Any:
    """Import ONNX Runtime, once, with its telemetry off: since 1.29 it uploads by default."""
    installed = [name for name in ("onnxruntime", "onnxruntime-gpu") if _is_installed(name)]
    if len(installed) != 1:
        what = "both onnxruntime and onnxruntime-gpu are" if installed else "no ONNX Runtime is"
        raise ConfigurationError(f"{what} installed; install penstock[cpu] or penstock[gpu], not both")
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime

    onnxruntime.set_default_logger_severity(3)
    if installed == ["onnxruntime-gpu"]:
        onnxruntime.preload_dlls()
    arena = onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR
    memory = onnxruntime.OrtMemoryInfo("Cpu", arena, 0, onnxruntime.OrtMemType.DEFAULT)
    onnxruntime.create_and_register_allocator(memory, None)
    return onnxruntime


def runtime_version() -> str:
    """Version of the ONNX Runtime in use."""
    return str(_runtime().__version__)


def _is_installed(distribution: str) -> bool:
    try:
        metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return False
    return True


def _verified(file: ModelFile) -> bytes:
    data = (resources.files("penstock.models") / file.file).read_bytes()
    if len(data) != file.bytes or hashlib.sha256(data).hexdigest() != file.sha256:
        raise ConfigurationError(f"{file.file} is damaged: it does not have the digest of the manifest; reinstall")
    return data


def _provider(device: Device) -> tuple[str, dict[str, str]]:
    if device.kind == "cpu":
        return "CPUExecutionProvider", {}
    # The process sees one device only (CUDA_VISIBLE_DEVICES), so that it is always number 0. The heuristic search
    # costs 2 ms a new shape, the exhaustive one 600; power-of-two arenas waste up to half the memory.
    return "CUDAExecutionProvider", {
        "device_id": "0",
        "cudnn_conv_algo_search": "HEURISTIC",
        "arena_extend_strategy": "kSameAsRequested",
    }


def _translated(error: Exception, *, stopped: bool) -> Exception:
    text = str(error)
    if stopped:
        return Interrupted()
    if any(word in text for word in _OUT_OF_MEMORY):
        return DeviceOutOfMemory("the device could not hold this batch")
    if any(word in text for word in _BROKEN):
        return DeviceBroken(text)
    return error
