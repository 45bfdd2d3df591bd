"""What a graph takes and gives: the names, types and shapes of its inputs and outputs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from penstock.errors import ConfigurationError

DTYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(uint8)": "uint8",
    "tensor(int8)": "int8",
    "tensor(uint16)": "uint16",
    "tensor(int16)": "int16",
    "tensor(uint32)": "uint32",
    "tensor(int32)": "int32",
    "tensor(uint64)": "uint64",
    "tensor(int64)": "int64",
    "tensor(bool)": "bool",
}
"""The names that ONNX Runtime and numpy have for a type of values."""


class Port(NamedTuple):
    """An input or output. The type is numpy's name, or what the runtime calls a type that numpy has not; a dimension is
    a number, or a name or None where it is free."""

    name: str
    dtype: str
    shape: tuple[int | str | None, ...]

    @property
    def is_tensor(self) -> bool:
        """Whether its value is an array, also one of text: not a sequence or a map."""
        return self.dtype in DTYPES.values() or self.dtype.startswith("tensor(")


class Ports(NamedTuple):
    """All inputs of a graph, and the outputs that its runs return."""

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]

    @property
    def output_names(self) -> tuple[str, ...]:
        """The names of the outputs, in the order in which runs return them."""
        return tuple(port.name for port in self.outputs)


def ports_of(session: Any, wanted: Sequence[str]) -> Ports:
    """The ports of a session of the runtime with these outputs: an empty name is the first one, and where none are
    wanted, they are all that are tensors. Raises ConfigurationError for one that the graph has not."""
    inputs, outputs = _ports(session.get_inputs()), _ports(session.get_outputs())
    by_name = {port.name: port for port in outputs}
    names = [name or outputs[0].name for name in wanted] or [port.name for port in outputs if port.is_tensor]
    for name in names:
        if name not in by_name:
            raise ConfigurationError(f"the graph has no output {name!r}; it has {', '.join(by_name)}")
        if not by_name[name].is_tensor:
            raise ConfigurationError(f"the output {name!r} of the graph is {by_name[name].dtype}, not a tensor")
    if not names:
        raise ConfigurationError(f"no output of the graph is a tensor: {', '.join(map(str, outputs))}")
    return Ports(inputs, tuple(by_name[name] for name in names))


def _ports(arguments: Iterable[Any]) -> tuple[Port, ...]:
    return tuple(Port(a.name, DTYPES.get(a.type, a.type), tuple(a.shape)) for a in arguments)
