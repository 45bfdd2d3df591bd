"""The same network with samples of 16 bits: a shipped file whose ends are changed when it is opened.

A shipped file takes and gives uint8, and computes in floats between (tools/convert/pixels.py). The numbers at its two
ends decide that, and each is as long for 16 bits as for 8, so that nothing else of the file moves: neither is it
shipped twice, nor does anybody who wants 8 bits pay for it.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from penstock.core.device import Device
from penstock.errors import ConfigurationError
from penstock.lazy_import import lazy_import
from penstock.models.onnxruntime import golden
from penstock.models.onnxruntime.late import LateSessions
from penstock.models.onnxruntime.network import NetworkSession
from penstock.models.onnxruntime.runtime import External
from penstock.models.onnxruntime.session import ModelFile

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
else:
    np = lazy_import("numpy")

WHITE = 65_535
STEP = 257
"""As many levels of 16 bits are one of 8."""

UINT8, UINT16 = 2, 4
"""TensorProto.DataType of onnx.proto."""

FLOATS = {"image.white": (255.0, 65_535.0), "white": (255.0, 65_535.0), "highest": (255.5, 65_535.5)}
"""Constants that are numbers of levels: what they are, and what they become."""

CAST = "upscaled.levels"
"""The node that makes levels of the floats."""

PORTS = ("image", "upscaled")

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
"""Wire types of Protocol Buffers."""

Field = tuple[int, int, int]
"""The number of a field, and the bytes from and to which its value is."""


class DeepFile:
    """A shipped file that takes and gives uint16."""

    def __init__(self, of: ModelFile) -> None:
        self.of = of
        self.file = f"{of.file} with 16 bits"
        self.network = of.network
        self.precision = of.precision
        self.cpu_nodes = of.cpu_nodes
        self.weights_bytes = of.weights_bytes

    @cached_property
    def sha256(self) -> str:
        """The digest of its contents."""
        return hashlib.sha256(self.read()).hexdigest()

    def external(self) -> External:
        """As that of the shipped file."""
        return self.of.external()

    def read(self) -> bytes:
        """Its contents. Raises ConfigurationError."""
        return deepened(self.of.read(), self.of.file)


class DeepSession(NetworkSession):
    """A file with uint16 on one device."""

    def __init__(self, file: ModelFile, device: Device) -> None:
        """Raises as that of a NetworkSession, and when the device does not compute the golden answers."""
        super().__init__(DeepFile(file), device)
        golden.check(_InEightBits(file, self), device, min(device.shapes))


def deep_sessions(files: Mapping[str, ModelFile], device: Device) -> LateSessions[DeepSession]:
    """The sessions with 16 bits of some files by name."""
    return LateSessions(lambda name: DeepSession(files[name], device), "with 16 bits")


class _InEightBits:
    """A deep session as golden answers see it, which are levels of 8 bits."""

    def __init__(self, file: ModelFile, session: DeepSession) -> None:
        self.file = file
        self._session = session

    def run(self, tiles: NDArray[Any]) -> list[NDArray[Any]]:
        upscaled, *others = self._session.run(tiles.astype(np.uint16) * np.uint16(STEP))
        return [upscaled / STEP, *others]


def deepened(contents: bytes, name: str) -> bytes:
    """The contents of a shipped file, with uint16 in place of uint8. Raises ConfigurationError for another graph."""
    made, changed = bytearray(contents), 0
    try:
        (graph,) = (value for number, *value in _fields(contents, 0, len(contents)) if number == 7)
        for at, new in _changes(contents, *graph):
            made[at : at + len(new)] = new
            changed += 1
    except (IndexError, struct.error, ValueError) as error:
        raise ConfigurationError(f"{name} is no graph that is understood; reinstall") from error
    if changed != len(FLOATS) + len(PORTS) + 1:
        raise ConfigurationError(f"{name} has other ends than levels of 8 bits: it cannot compute with 16")
    return bytes(made)


def _changes(data: bytes, start: int, end: int) -> Iterator[tuple[int, bytes]]:
    """Places in a graph (GraphProto of onnx.proto), and what stands there then."""
    for number, first, behind in _fields(data, start, end):
        if number == 1:
            yield from _cast(data, first, behind)
        elif number == 5:
            yield from _constant(data, first, behind)
        elif number in (11, 12) and _text(data, first, behind, 1) in PORTS:
            place = _place(data, *_place(data, *_place(data, first, behind, 2), 1), 1)  # type, tensor_type, elem_type
            yield from _replaced(data, place, bytes([UINT8]), bytes([UINT16]))


def _cast(data: bytes, start: int, end: int) -> Iterator[tuple[int, bytes]]:
    if _text(data, start, end, 2) == CAST:  # output
        place = _place(data, *_place(data, start, end, 5), 3)  # attribute, i
        yield from _replaced(data, place, bytes([UINT8]), bytes([UINT16]))


def _constant(data: bytes, start: int, end: int) -> Iterator[tuple[int, bytes]]:
    known = FLOATS.get(_text(data, start, end, 8))  # name
    if known is not None:
        before, after = (struct.pack("<f", value) for value in known)
        yield from _replaced(data, _place(data, start, end, 9), before, after)  # raw_data


def _replaced(data: bytes, place: tuple[int, int], before: bytes, after: bytes) -> Iterator[tuple[int, bytes]]:
    if data[slice(*place)] == before:
        yield place[0], after


def _place(data: bytes, start: int, end: int, wanted: int) -> tuple[int, int]:
    for number, first, behind in _fields(data, start, end):
        if number == wanted:
            return first, behind
    raise ValueError(wanted)


def _text(data: bytes, start: int, end: int, wanted: int) -> str:
    return data[slice(*_place(data, start, end, wanted))].decode()


def _fields(data: bytes, start: int, end: int) -> Iterator[Field]:
    """The fields of a message, in the order of the file."""
    at = start
    while at < end:
        key, at = _varint(data, at)
        kind = key & 7
        if kind == VARINT:
            _, behind = _varint(data, at)
        elif kind == BYTES:
            size, at = _varint(data, at)
            behind = at + size
        else:
            behind = at + {FIXED64: 8, FIXED32: 4}[kind]
        yield key >> 3, at, behind
        at = behind


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
