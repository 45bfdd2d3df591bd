"""An ONNX file as plain values: its inputs, outputs, metadata and nodes, without the weights. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

from msgspec import Struct

DType = str
"""A name of numpy's, such as `float32`; `other` for strings, sequences and maps."""

Dimension = int | str | None
"""A length; or the name of one that may vary; or None where nothing is said."""

THROUGH = frozenset({"Identity", "Cast", "Reshape", "Squeeze", "Unsqueeze", "Transpose", "Flatten", "DequantizeLinear"})
"""Operators that change no value, only its form."""


class GraphTensor(Struct, frozen=True, kw_only=True):
    """An input or output of a graph. `dims` is None where the file does not say how many there are."""

    name: str
    dtype: DType
    dims: tuple[Dimension, ...] | None

    @property
    def rank(self) -> int:
        """The number of dimensions; -1 where the file does not say it."""
        return -1 if self.dims is None else len(self.dims)

    @property
    def shape(self) -> str:
        """The dimensions for people: `batch×3×?×?`."""
        return "of any shape" if self.dims is None else "×".join(map(_shown, self.dims)) or "a number"

    def __str__(self) -> str:
        return f"{self.name} ({self.shape}, {self.dtype})"


def _shown(dim: Dimension) -> str:
    """A length, or its name where a person chose it; exporters make up names such as `unk__653`."""
    return str(dim) if isinstance(dim, int) or (dim and re.fullmatch("[A-Za-z]{1,12}", dim) and dim != "None") else "?"


class Node(Struct, frozen=True, kw_only=True):
    """One operator. `constants` has the values of inputs that are constants with at most four numbers."""

    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    constants: dict[str, tuple[float, ...]] = {}
    kernel_channels: int | None = None
    """How many channels a convolution looks at."""
    kernel_norm: float | None = None
    """The median of the L2 norms of the kernels of a convolution."""


class Graph(Struct, frozen=True, kw_only=True):
    """The graph of an ONNX file, in the order in which its nodes run."""

    inputs: tuple[GraphTensor, ...]
    outputs: tuple[GraphTensor, ...]
    nodes: tuple[Node, ...]
    metadata: dict[str, str]
    producer: str = ""
    external: tuple[str, ...] = ()
    """Names of the files beside it that hold weights."""

    def ending(self, output: str, *, most: int = 12) -> list[str]:
        """The operators that compute this output, the last first, as far as they follow each other in a line; those
        that only change its form are left out."""
        makers = {name: node for node in self.nodes for name in node.outputs}
        found: list[str] = []
        name = output
        while (node := makers.get(name)) is not None and len(found) < most:
            if node.op not in THROUGH:
                found.append(node.op)
            computed = [i for i in node.inputs if i in makers and makers[i].op != "Constant"]
            if not computed:
                break
            name = computed[0]
        return found

    def beginning(self, name: str, *, most: int = 12) -> Iterator[Node]:
        """The nodes that this input goes through first, as far as they follow each other in a line."""
        for _ in range(most):
            users = [node for node in self.nodes if name in node.inputs and node.op != "Shape"]
            if len(users) != 1 or not users[0].outputs:
                yield from users[:4]
                return
            yield users[0]
            name = users[0].outputs[0]

    def operators(self) -> set[str]:
        """The operators of the whole graph."""
        return {node.op for node in self.nodes}
