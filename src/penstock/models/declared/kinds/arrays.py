"""image-to-tensors: what a network says about an image, as it says it. Tensors in answers of both kinds that have
them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from penstock.core.request import OutputOptions
from penstock.lazy_import import lazy_import
from penstock.models.base import Work
from penstock.models.declared.kinds.contract import DeclaredKind, KindAnswer, finite, value_of
from penstock.models.declared.kinds.one_image import OneImage
from penstock.models.declared.kinds.packing import NPZ, npz
from penstock.models.declared.settings import Setting
from penstock.models.onnxruntime.ports import Ports

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
else:
    np = lazy_import("numpy")

CHARACTERS = 2
"""A number takes at least so many characters in JSON, with the comma."""


class AnswersTensors(DeclaredKind):
    """Answers `outputs`: for each output of the graph its `shape`, `dtype` and `values`; the values are in a `.npz`
    file where that is asked for, or they are too many for data.

    `check_ports` of a kind notes their names in `_names`.
    """

    produces = "any"
    _names: Sequence[str]

    @property
    def settings(self) -> dict[str, Setting]:
        """In which form the values come."""
        return tensor_settings(self.definition.output.format)

    @property
    def outputs(self) -> tuple[str, ...]:
        """All, or the one that the definition names."""
        name = self.definition.output.name
        return (name,) if name else ()

    def answer(self, work: Work, params: Any, output: OutputOptions) -> KindAnswer:
        """All outputs by name."""
        arrays = dict(zip(self._names, work.outputs[0], strict=True))
        form = value_of(params, "format", self.definition.output.format)
        return tensors_answer(arrays, form, self.limits.max_result_data_bytes)


class ImageToTensors(AnswersTensors, OneImage):
    """What a network says about an image, as it says it."""

    def check_ports(self, ports: Ports) -> None:
        """Note the names of the outputs."""
        super().check_ports(ports)
        self._names = ports.output_names

    def memory_needed(self, source: bytes) -> int:
        """Twice the pixels and the tensor: how large the outputs are, only the graph knows."""
        return 2 * super().memory_needed(source)


def tensor_settings(chosen: str) -> dict[str, Setting]:
    """The parameter of the form of tensors."""
    description = "`json`: the values in the data of the result, as far as they fit; `npz`: in a file of NumPy."
    form = chosen if chosen in ("json", "npz") else "npz"
    return {"format": Setting(default=form, values=("json", "npz"), description=description)}


def tensors_answer(arrays: Mapping[str, NDArray[Any]], form: str, max_data_bytes: int) -> KindAnswer:
    """Arrays by name as data, or where they are too many for that as a file. Raises InvalidOutput where a value is no
    number."""
    plain = {name: _plain(array) for name, array in arrays.items()}
    shapes = {name: {"shape": list(array.shape), "dtype": _type(array)} for name, array in plain.items()}
    if form == "json" and sum(array.size for array in plain.values()) * CHARACTERS <= max_data_bytes:
        data = {"outputs": {name: shape | {"values": plain[name].tolist()} for name, shape in shapes.items()}}
        if len(msgspec.json.encode(data)) <= max_data_bytes - RESERVED_BYTES:
            return KindAnswer(data)
    return KindAnswer({"outputs": shapes}, npz(plain), NPZ, "npz")


def _plain(array: NDArray[Any]) -> NDArray[Any]:
    return array.astype(np.str_) if array.dtype == object else finite(array)


def _type(array: NDArray[Any]) -> str:
    return "string" if array.dtype.kind == "U" else str(array.dtype)


RESERVED_BYTES = 4096
"""Room in the data of a result for what else is in it, such as the guesses."""
