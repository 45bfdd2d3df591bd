"""tensors: any graph, with arrays in and arrays out."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from penstock.core.device import Device
from penstock.core.model import Member
from penstock.errors import ConfigurationError, InvalidRequest
from penstock.lazy_import import lazy_import
from penstock.models.base import Work
from penstock.models.declared.definition import Definition, TensorSection
from penstock.models.declared.kinds.arrays import AnswersTensors
from penstock.models.declared.kinds.packing import unpacked, unpacked_bytes
from penstock.models.declared.network import FREE, Arrays, DeclaredNetwork
from penstock.models.onnxruntime.ports import Ports
from penstock.settings import LimitSettings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
else:
    np = lazy_import("numpy")

ALIGNMENT = 64
"""Bytes between the beginnings of two arrays in a tile, as many as any type needs."""

FILE = "file"
"""The member that takes a `.npz` with all arrays by name, or the `.npy` of the only one."""

TAKEN = frozenset({"image", "image_url", "upload_id", FILE})
"""Names that mean an image or a file on the wire."""

WHOLE, STACKED = "whole", "stacked"


class Part(NamedTuple):
    """Where one array is in the bytes of a tile."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    offset: int


class TensorsToTensors(AnswersTensors):
    """Takes each input of the graph as a member of that name, nested lists of numbers; or all of them in one file."""

    def __init__(self, definition: Definition, labels: tuple[str, ...], limits: LimitSettings) -> None:
        super().__init__(definition, labels, limits)
        self._tensors = dict(zip(_member_names(definition.tensors), definition.tensors, strict=True))
        self._widest = max((np.dtype(tensor.dtype).itemsize for tensor in definition.tensors), default=1)
        self._mixes = _may_mix(definition.tensors)

    @property
    def members(self) -> dict[str, Member]:
        """One of JSON for each input, and one for a file."""
        arrays = {name: _member(tensor) for name, tensor in self._tensors.items()}
        described = "A .npz file with the arrays by name, or the .npy file of the only one, in place of the others."
        return arrays | {FILE: Member(kind="file", required=False, description=described)}

    def check_ports(self, ports: Ports) -> None:
        """Compare names, types and shapes of all inputs, and note the names of the outputs."""
        found = {port.name: port for port in ports.inputs}
        names = [tensor.name for tensor in self.definition.tensors]
        if set(found) != set(names):
            raise ConfigurationError(f"tensors: the graph takes {', '.join(found)}, not {', '.join(names)}")
        for tensor in self.definition.tensors:
            name, port = tensor.name, found[tensor.name]
            if port.dtype != tensor.dtype:
                raise ConfigurationError(
                    f"tensors.{name}: the graph takes {port.dtype}, model.toml says {tensor.dtype}"
                )
            fits = [a == b or not isinstance(a, int) for a, b in zip(port.shape, tensor.shape, strict=False)]
            if len(port.shape) != len(tensor.shape) or not all(fits):
                raise ConfigurationError(f"tensors.{name}: the graph takes {list(port.shape)}")
        self._names = ports.output_names

    def memory_needed(self, source: Mapping[str, Any]) -> int:
        """Some times what came in: a list of numbers takes more than an array, and bytes may become wider numbers."""
        return 4 * sum(self._taken_by(name, value) for name, value in source.items())

    def _taken_by(self, name: str, value: Any) -> int:
        if not isinstance(value, bytes):
            return _count(value) * 32
        return self._widest * unpacked_bytes(value, f"input.{name}", max_bytes=self.limits.max_input_bytes)

    def work(self, source: Mapping[str, Any], device: Device) -> Work:
        """All arrays of a task as one tile of bytes. Raises InvalidRequest, InputTooLarge."""
        arrays = self._arrays(source)
        parts, size = _laid_out(arrays)
        tile = np.zeros(size, np.uint8)
        for part in parts:
            array = arrays[part.name]
            tile[part.offset : part.offset + array.nbytes] = np.frombuffer(np.ascontiguousarray(array), np.uint8)
        stacked = self._mixes and all(part.shape[0] == 1 for part in parts)
        shapes = ";".join(f"{part.dtype.str}{part.shape}" for part in parts)
        return Work([tile], lane=f"{STACKED if stacked else WHOLE} {shapes}", context=parts)

    def batch(self, ports: Ports) -> int:
        """Any: what is stacked has one axis of that name in all inputs."""
        return FREE

    def run(self, network: DeclaredNetwork, tiles: NDArray[Any], work: Work) -> list[Arrays]:
        """Run a batch in one piece where its arrays are for one each, else one after another."""
        arrays = self.feeds(tiles, work)
        if work.lane.startswith(STACKED):
            return network.run({name: array[:, 0] for name, array in arrays.items()}, work)
        whole = [{name: array[n, ...] for name, array in arrays.items()} for n in range(len(tiles))]
        return network.run_whole(whole, work)

    def feeds(self, tiles: NDArray[Any], work: Work) -> dict[str, NDArray[Any]]:
        """Each array by name, (tiles, ...)."""
        return {part.name: _taken(tiles, part) for part in work.context}

    def _arrays(self, source: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
        given = {name: value for name, value in source.items() if name in self._tensors and value is not None}
        if source.get(FILE) is not None:
            given |= self._from_file(source[FILE])
        for name in self._tensors:
            if name not in given:
                raise InvalidRequest(f"input.{name} is missing", param=f"input.{name}")
        sizes: dict[str, int] = {}
        return {t.name: _as_array(given[name], t, sizes, f"input.{name}") for name, t in self._tensors.items()}

    def _from_file(self, content: bytes) -> dict[str, NDArray[Any]]:
        param = f"input.{FILE}"
        arrays = unpacked(content, param, max_bytes=self.limits.max_input_bytes)
        if set(arrays) == {""} and len(self._tensors) == 1:
            return dict.fromkeys(self._tensors, arrays[""])
        if set(arrays) == {""}:
            raise InvalidRequest("the model takes several arrays: a .npz file with their names", param=param)
        members = {tensor.name: name for name, tensor in self._tensors.items()}
        if unknown := sorted(set(arrays) - set(members)):
            raise InvalidRequest(f"the model has no input {unknown[0]!r}", param=param)
        return {members[name]: array for name, array in arrays.items()}


def _member_names(tensors: tuple[TensorSection, ...]) -> list[str]:
    """The names of tensors as members of a request: letters, digits, `_` and `-`, and none with another meaning
    there."""
    names: list[str] = []
    for tensor in tensors:
        name = re.sub(r"[^A-Za-z0-9_-]", "_", tensor.name)[:60]
        name = name if re.match(r"[A-Za-z_]", name) and name not in TAKEN else f"in_{name}"
        names.append(name if name not in names else f"{name}_{len(names)}")
    return names


def _member(tensor: TensorSection) -> Member:
    shape = ", ".join(map(str, tensor.shape))
    schema: dict[str, Any] = {"type": "boolean" if tensor.dtype == "bool" else "number"}
    if tensor.dtype[0] in "iu":
        schema = {"type": "integer"}
    for size in reversed(tensor.shape):
        schema = {"type": "array", "items": schema}
        if isinstance(size, int):
            schema |= {"minItems": size, "maxItems": size}
    return Member(kind="json", required=False, description=f"{tensor.dtype}[{shape}]", schema=schema)


def _may_mix(tensors: tuple[TensorSection, ...]) -> bool:
    first = {tensor.shape[0] if tensor.shape else 0 for tensor in tensors}
    return len(first) == 1 and isinstance(next(iter(first)), str)


def _as_array(value: Any, tensor: TensorSection, sizes: dict[str, int], param: str) -> NDArray[Any]:
    """The value in the type of the tensor. `sizes` are the numbers that names of dimensions have so far."""
    wanted = np.dtype(tensor.dtype)
    array = value if isinstance(value, np.ndarray) else _of_lists(value, param, wanted)
    if not np.can_cast(array.dtype, wanted, "same_kind"):
        raise InvalidRequest(f"{param} has values of {array.dtype}, not {wanted}", param=param)
    fits = len(array.shape) == len(tensor.shape) and all(
        has == (size if isinstance(size, int) else sizes.setdefault(size, has) if size else has)
        for has, size in zip(array.shape, tensor.shape, strict=True)
    )
    if 0 in array.shape:
        raise InvalidRequest(f"{param} is empty: it has the shape {list(array.shape)}", param=param)
    if not fits:
        expected = [sizes.get(size, size) if isinstance(size, str) else size for size in tensor.shape]
        raise InvalidRequest(f"{param} has the shape {list(array.shape)}, not {expected}", param=param)
    return _converted(array, wanted, param)


def _of_lists(value: Any, param: str, wanted: np.dtype[Any]) -> NDArray[Any]:
    try:
        array = np.array(value)
        if array.dtype.kind in "iu" and wanted.kind in "iu":
            return np.array(value, wanted)  # refuses what does not fit
    except (ValueError, TypeError, OverflowError) as error:
        raise InvalidRequest(f"{param} is no array of {wanted}", param=param) from error
    if array.dtype.kind not in "fiub" or (array.dtype.kind == "f" and wanted.kind in "iub"):
        raise InvalidRequest(f"{param} is no array of {wanted}", param=param)
    return _converted(array, wanted, param)


def _converted(array: NDArray[Any], wanted: np.dtype[Any], param: str) -> NDArray[Any]:
    with np.errstate(over="ignore"):
        made = array.astype(wanted, copy=False)
    if made is not array and not _holds(made, array):
        raise InvalidRequest(f"{param} has values that {wanted} cannot hold", param=param)
    return made


def _holds(made: NDArray[Any], array: NDArray[Any]) -> bool:
    """Whether all values are still there: whole numbers exactly, fractions rounded."""
    if made.dtype.kind == "f":
        return bool((np.isfinite(made) == np.isfinite(array)).all())
    return np.array_equal(made, array)


def _laid_out(arrays: Mapping[str, NDArray[Any]]) -> tuple[list[Part], int]:
    parts, end = [], 0
    for name, array in arrays.items():
        parts.append(Part(name, array.dtype, array.shape, end))
        end += -(-array.nbytes // ALIGNMENT) * ALIGNMENT
    return parts, end


def _taken(tiles: NDArray[Any], part: Part) -> NDArray[Any]:
    size = math.prod(part.shape) * part.dtype.itemsize
    content = np.ascontiguousarray(tiles[:, part.offset : part.offset + size])
    return content.view(part.dtype).reshape(len(tiles), *part.shape)


def _count(value: Any) -> int:
    return sum(map(_count, value)) if isinstance(value, list | tuple) else 1
