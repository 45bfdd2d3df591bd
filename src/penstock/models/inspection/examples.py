"""An example that a model can answer: the bundled photo, or arrays of the shapes that the graph takes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from penstock.lazy_import import lazy_import
from penstock.models.declared.definition import Definition, TensorSection
from penstock.models.declared.files import bounded
from penstock.models.declared.kinds.packing import npz

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
else:
    np = lazy_import("numpy")

LENGTHS = (16, 1, 256, 512, 4096)
"""Lengths of axes that may have any, to be tried one after another; the first axis has 1."""
LARGEST_EXAMPLE_BYTES = 64 * 1024 * 1024


class ExampleFile(Struct, frozen=True, kw_only=True):
    """A file that is the whole input of a model, and the name of the member that takes it."""

    name: str
    content: bytes
    member: str


def examples_for(definition: Definition, given: Path | None) -> Iterator[ExampleFile]:
    """Examples to try, one after another. With a file that an operator gives there is only that one."""
    member = "file" if definition.kind == "tensors" else "image"
    if given is not None:
        yield ExampleFile(
            name=f"example{given.suffix.lower()}", content=bounded(given, LARGEST_EXAMPLE_BYTES), member=member
        )
    elif definition.kind == "tensors":
        yield from _arrays(definition.tensors)
    else:
        photo = (resources.files("penstock.models") / "photo.jpg").read_bytes()
        yield ExampleFile(name="example.jpg", content=photo, member=member)


def _arrays(tensors: tuple[TensorSection, ...]) -> Iterator[ExampleFile]:
    for length in LENGTHS:
        shapes = {tensor.name: _shape(tensor, length) for tensor in tensors}
        if sum(_bytes(tensor, shapes[tensor.name]) for tensor in tensors) > LARGEST_EXAMPLE_BYTES:
            continue
        content = npz({tensor.name: _filled(tensor, shapes[tensor.name]) for tensor in tensors})
        yield ExampleFile(name="example.npz", content=content, member="file")


def _shape(tensor: TensorSection, length: int) -> tuple[int, ...]:
    return tuple(
        size if isinstance(size, int) else 1 if axis == 0 and len(tensor.shape) > 1 else length
        for axis, size in enumerate(tensor.shape)
    )


def _bytes(tensor: TensorSection, shape: tuple[int, ...]) -> int:
    return math.prod(shape) * np.dtype(tensor.dtype).itemsize


def _filled(tensor: TensorSection, shape: tuple[int, ...]) -> NDArray[Any]:
    """Fractions from 0 to 1, or ones: whole numbers are often indices, and 1 is one of nearly all tables."""
    if tensor.dtype.startswith("float"):
        count = int(np.prod(shape))
        ramp: NDArray[Any] = np.linspace(0, 1, count).reshape(shape).astype(tensor.dtype)
        return ramp
    return np.ones(shape, tensor.dtype)
