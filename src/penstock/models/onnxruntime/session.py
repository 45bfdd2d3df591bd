"""Verified model files on one device, in runs that can be stopped."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from functools import cache, partial
from importlib import resources
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal

import msgspec
from msgspec import Struct

from penstock.core.device import Device
from penstock.errors import ConfigurationError
from penstock.lazy_import import lazy_import
from penstock.models.base import DeviceBroken, Interrupted
from penstock.models.onnxruntime import faults
from penstock.models.onnxruntime.cuda_device import cuda_device_for
from penstock.models.onnxruntime.providers import engine_directory, setup
from penstock.models.onnxruntime.runtime import open_session, runtime, runtime_version
from penstock.models.onnxruntime.sessions import PairedSessions, Sessions, ShapeSessions

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
    """One model file on one device. Only device threads call `run`; any thread may call `interrupt`."""

    def __init__(
        self,
        file: ModelFile,
        device: Device,
        shapes: Sequence[tuple[int, int]] = (),
        options: Mapping[str, str] | None = None,
    ) -> None:
        """`shapes` are the (height, width) of the tiles of this model, where they are not those of the device, and
        `options` more options for the CUDA provider.

        Raises ConfigurationError when the file is not the one in the manifest, or the runtime would use another
        provider than it was told to; DeviceBroken when another start may help.
        """
        self.file = file
        self._lock = Lock()
        self._running: dict[Any, object] = {}
        try:
            self._sessions = _sessions(file, device, shapes or device.shapes, options or {})
        except ConfigurationError:
            raise
        except Exception as error:  # the runtime's own classes are private
            raise faults.of_load(error, f"{file.file} cannot run on {device.name}") from error
        self.provider = self._sessions.provider

    def run(self, tiles: NDArray[Any], *, owner: object = None) -> list[NDArray[Any]]:
        """Run one batch and return all outputs, which belong to the caller; `interrupt` finds the run by its `owner`.

        On a CUDA device two threads may call it at a time: the results of one are copied while the other computes.

        Raises Interrupted, DeviceOutOfMemory, DeviceBroken.
        """
        options = runtime().RunOptions()  # a terminated one stays so: a new one for each run
        with self._lock:
            self._running[options] = owner
        try:
            return self._sessions.run(tiles, options)
        except Exception as error:  # the runtime's own classes are private
            if self._meaning(error, options) is error:
                raise  # as its own cause it would hold the tiles until the garbage collector comes
            raise self._meaning(error, options) from error
        finally:
            with self._lock:
                del self._running[options]

    def _meaning(self, error: Exception, options: Any) -> Exception:
        meant = faults.of_run(error)
        # A device that broke beside the run must not be used again, whoever wanted the run to stop.
        return Interrupted() if options.terminate and not isinstance(meant, DeviceBroken) else meant

    def interrupt(self, owner: object = None) -> None:
        """Make the present runs of this owner raise Interrupted at their next node; a CUDA graph runs to its end."""
        with self._lock:
            for options in [o for o, its_owner in self._running.items() if its_owner is owner]:
                options.terminate = True


def _sessions(
    file: ModelFile, device: Device, shapes: Sequence[tuple[int, int]], options: Mapping[str, str]
) -> Sessions:
    engines = engine_directory(device, file.sha256, runtime_version())
    if device.tensorrt:
        Path(engines).mkdir(mode=0o700, parents=True, exist_ok=True)
    wanted = partial(setup, device, fp16=file.precision == "fp16", shapes=shapes, engines=engines, options=options)
    opened = partial(open_session, _verified(file))
    card = cuda_device_for(device) if device.kind == "cuda" else None
    if card is None:
        return PairedSessions(device, lambda threads: opened(wanted(), threads=threads))

    def open_on_device(*, for_graph: bool) -> Any:
        of_its_own = card.limit_bytes if for_graph else 0
        return opened(wanted(stream=card.stream, graph_bytes=of_its_own), threads=device.threads)

    return ShapeSessions(card, device, open_on_device, one_for_all=device.tensorrt)


def _verified(file: ModelFile) -> bytes:
    try:
        data = (resources.files("penstock.weights") / file.file).read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{file.file} cannot be read ({error.strerror}); reinstall") from error
    if len(data) != file.bytes or hashlib.sha256(data).hexdigest() != file.sha256:
        raise ConfigurationError(f"{file.file} is damaged: it does not have the digest of the manifest; reinstall")
    return data
