"""The only importer of ONNX Runtime: verified model files, one device, no silent fall-back, runs that can be
stopped."""

from __future__ import annotations

import hashlib
import os
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib import metadata, resources
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal

import msgspec
from msgspec import Struct

from penstock.core.device import Device
from penstock.errors import ConfigurationError
from penstock.lazy_import import lazy_import
from penstock.models.base import Interrupted
from penstock.models.onnxruntime import faults
from penstock.models.onnxruntime.bindings import Binding, RunModes
from penstock.models.onnxruntime.providers import engine_directory, setup

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
else:
    np = lazy_import("numpy")


class ModelFile(Struct, frozen=True, kw_only=True):
    """One row of the manifest: a file that ships, its origin and its digest.

    Every file takes `image`, (batch, height, width, 3) in uint8, RGB. A file that enlarges returns the same of `scale`
    times the height and width, and for each image the sum of its values in fp32, which is not finite where one of them
    is not. The levels of a file with fp16 arithmetic may differ from those of its fp32 twin by `tolerance`, a share of
    255. `device` is the kind of device that the file is shaped for.
    """

    name: str
    variant: str
    version: str
    device: Literal["any", "cpu", "cuda"] = "any"
    precision: Literal["fp32", "fp16"] = "fp32"
    tolerance: float = 0.0
    file: str
    sha256: str
    bytes: int
    licence: str
    source: str
    scale: int = 1
    overlap_px: int = 0

    @property
    def network(self) -> str:
        """The network that all files of this model and variant compute, such as `superres-x4.general`."""
        return f"{self.name}.{self.variant}"


def manifest(kind: Literal["cpu", "cuda"] = "cpu") -> dict[tuple[str, str], ModelFile]:
    """The fp32 files for devices of this kind by (model, variant). Files of one network have the same values, but for
    rounding, and the same scale and overlap."""
    exact = (row for row in _rows() if row.precision == "fp32" and row.device in ("any", kind))
    return {(row.name, row.variant): row for row in exact}


def half(file: ModelFile) -> ModelFile | None:
    """The file of the same network with fp16 arithmetic; None where there is none."""
    twins = [r for r in _rows() if (r.name, r.variant, r.precision) == (file.name, file.variant, "fp16")]
    return twins[0] if twins else None


@cache
def _rows() -> list[ModelFile]:
    text = (resources.files("penstock.weights") / "manifest.toml").read_text()
    return msgspec.convert(tomllib.loads(text)["model"], list[ModelFile])


def files_of(model: str) -> list[ModelFile]:
    """All files that a model may run, with any arithmetic."""
    return [row for row in _rows() if row.name == model]


def damaged() -> list[str]:
    """A line about each shipped file that is not the one in the manifest."""
    found = []
    for row in _rows():
        try:
            _verified(row)
        except ConfigurationError as error:
            found.append(str(error))
    return found


def digest_of(files: Iterable[ModelFile]) -> str:
    """A digest of the versions and the contents of these files."""
    parts = sorted((file.file, file.version, file.sha256) for file in files)
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()


class Session:
    """One model file on one device. Only device threads call `run`; any thread may call `interrupt`.

    On a device of several streams it holds two sessions of the runtime: a run that is alone in the process uses every
    thread of the device, and runs that meet use their share each.
    """

    def __init__(self, file: ModelFile, device: Device, shapes: Sequence[tuple[int, int]] = ()) -> None:
        """`shapes` are the (height, width) of the tiles of this model, where they are not those of the device.

        Raises ConfigurationError when the file is not the one in the manifest, or the runtime would use another
        provider than it was told to; DeviceBroken when another start may help.
        """
        self.file = file
        self._device = device
        self._ort = _runtime()
        known = shapes or device.shapes
        data = _verified(file)
        session = _session(data, file, device, known, threads=device.threads)
        self.provider = str(session.get_providers()[0])
        self._alone = RunModes(self._ort, session, device, known)
        self._meeting = self._alone
        if device.streams > 1:
            share = max(1, device.threads // device.streams)
            self._meeting = RunModes(self._ort, _session(data, file, device, known, threads=share), device, known)
        self._lock = Lock()
        self._running: dict[Any, object] = {}

    def run(self, tiles: NDArray[Any], *, owner: object = None) -> list[NDArray[Any]]:
        """Run one batch and return all outputs; `interrupt` finds the run by its `owner`.

        Raises Interrupted, DeviceOutOfMemory, DeviceBroken.
        """
        try:
            with _counted() as others:
                modes = self._meeting if others else self._alone
                mode = modes.for_shape(tiles.shape)
                if mode is None:
                    mode = modes.remember(tiles.shape, self._through(modes.default, tiles, owner))
                return self._through(mode, tiles, owner)
        except Interrupted:
            raise
        except Exception as error:  # the runtime's own classes are private
            raise faults.of_run(error) from error

    def interrupt(self, owner: object = None) -> None:
        """Make the present runs of this owner raise Interrupted at their next node; a CUDA graph runs to its end."""
        with self._lock:
            for options in [o for o, its_owner in self._running.items() if its_owner is owner]:
                options.terminate = True

    def _through(self, mode: Binding, tiles: NDArray[Any], owner: object) -> list[NDArray[Any]]:
        options = self._ort.RunOptions()  # a terminated one stays so: a new one for each run
        if self._device.cuda_graphs:
            options.add_run_config_entry("gpu_graph_id", str(mode.graph))
        with self._lock:
            self._running[options] = owner
        try:
            return mode.run(tiles, options)
        except Exception as error:
            if options.terminate:
                raise Interrupted from error
            raise
        finally:
            with self._lock:
                del self._running[options]


_runs = 0
_runs_lock = Lock()


@contextmanager
def _counted() -> Iterator[int]:
    """Yield how many other runs go on in this process, which has one device."""
    global _runs
    with _runs_lock:
        others, _runs = _runs, _runs + 1
    try:
        yield others
    finally:
        with _runs_lock:
            _runs -= 1


def _session(data: bytes, file: ModelFile, device: Device, shapes: Sequence[tuple[int, int]], *, threads: int) -> Any:
    """The runtime's session, with the provider that the device needs and no other."""
    ort = _runtime()
    engines = engine_directory(device, file.sha256, runtime_version())
    wanted = setup(device, fp16=file.precision == "fp16", shapes=shapes, engines=engines)
    if device.tensorrt:
        Path(engines).mkdir(mode=0o700, parents=True, exist_ok=True)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # A plan of memory for each input shape would be kept for ever.
    options.enable_mem_pattern = False
    for name, value in wanted.entries.items():
        options.add_session_config_entry(name, value)
    try:
        session = ort.InferenceSession(data, options, providers=list(wanted.providers), enable_fallback=0)
    except Exception as error:  # the runtime's own classes are private
        raise faults.of_load(error, f"{file.file} cannot run on {device.name}") from error
    first = wanted.providers[0][0]
    busy = {part.ep_name for part in session.get_provider_graph_assignment_info()}
    if session.get_providers()[0] != first or first not in busy:
        raise ConfigurationError(
            f"{device.name} was asked for by {first}, but ONNX Runtime would run {file.file} on {sorted(busy)}"
        )
    return session


@cache
def _runtime() -> Any:
    """Import ONNX Runtime once, with its telemetry off: since 1.29 it uploads by default."""
    installed = [name for name in ("onnxruntime", "onnxruntime-gpu") if _is_installed(name)]
    if len(installed) != 1:
        what = "both onnxruntime and onnxruntime-gpu are" if installed else "no ONNX Runtime is"
        raise ConfigurationError(f"{what} installed; install penstock-server[cpu] or penstock-server[gpu], not both")
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
    """The version of the ONNX Runtime in use."""
    return str(_runtime().__version__)


def _is_installed(distribution: str) -> bool:
    try:
        metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return False
    return True


def _verified(file: ModelFile) -> bytes:
    try:
        data = (resources.files("penstock.weights") / file.file).read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{file.file} cannot be read ({error.strerror}); reinstall") from error
    if len(data) != file.bytes or hashlib.sha256(data).hexdigest() != file.sha256:
        raise ConfigurationError(f"{file.file} is damaged: it does not have the digest of the manifest; reinstall")
    return data
