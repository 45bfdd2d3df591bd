"""The modes in which a batch runs in a session of ONNX Runtime.

- PlainRun: the runtime copies the results by itself. Any shape.
- EagerRun: the results stay on the device, in a block of their own. One shape.
- GraphRun: input and results keep their place on the device, which a CUDA graph needs. One shape.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from penstock.lazy_import import lazy_import
from penstock.models.onnxruntime.providers import INPUT
from penstock.models.onnxruntime.results import DeviceBlocks, Results, Tensor

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
else:
    np = lazy_import("numpy")


CUDA_DEVICE = "cuda"

ALIGNMENT = 256
"""Bytes between the beginnings of two outputs in a block: `cudaMalloc` aligns to as many."""

DTYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(uint8)": "uint8",
    "tensor(int8)": "int8",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
    "tensor(bool)": "bool",
}
"""The names that ONNX Runtime and numpy have for a type of values."""


class PlainRun:
    """Runs a session with `session.run`."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self._names = [output.name for output in session.get_outputs()]

    def run(self, tiles: NDArray[Any], options: Any) -> list[NDArray[Any]]:
        """Run a batch and return all outputs. Raises what the runtime raises."""
        return list(self._session.run(self._names, {INPUT: tiles}, options))


class Binding(Protocol):
    """A run mode on a device, for batches of one shape.

    Where `overwrites` is true, the next run writes its results where those of the last one are.
    """

    session: Any
    overwrites: bool

    def run(self, tiles: NDArray[Any], options: Any) -> Results:
        """Run a batch and return all outputs, on the device, when they are complete.

        Raises what the runtime raises, and RuntimeError in the words of CUDA.
        """


class Output(NamedTuple):
    """One output for batches of one shape. `offset` is its place in a block."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    offset: int


class EagerRun:
    """Runs with results in a block of device memory. In the first run they are in the arena: the model file does not
    say how large they will be. They must be as large in every run."""

    overwrites = False

    def __init__(self, session: Any, blocks: DeviceBlocks) -> None:
        self.session = session
        self._blocks = blocks
        self._outputs: list[Output] = []
        self._size = 0

    def run(self, tiles: NDArray[Any], options: Any) -> Results:
        """Run a batch and return all outputs."""
        tiles = np.ascontiguousarray(tiles)
        binding = self.session.io_binding()
        binding.bind_input(INPUT, "cpu", 0, tiles.dtype, tiles.shape, tiles.ctypes.data)
        return self._in_block(binding, options) if self._outputs else self._in_arena(binding, options)

    def _in_block(self, binding: Any, options: Any) -> Results:
        block = self._blocks.take(self._size)
        tensors = [Tensor(block.address + output.offset, output.shape, output.dtype) for output in self._outputs]
        for output, tensor in zip(self._outputs, tensors, strict=True):
            binding.bind_output(output.name, CUDA_DEVICE, 0, tensor.dtype, tensor.shape, tensor.address)
        # At its end, also of a run that failed or was stopped, the runtime waits for its stream: nobody reads the tiles
        # or writes into the block after that. It releases the interpreter's lock meanwhile.
        self.session.run_with_iobinding(binding, options)
        return Results(tensors, block)

    def _in_arena(self, binding: Any, options: Any) -> Results:
        names = [output.name for output in self.session.get_outputs()]
        for name in names:
            binding.bind_output(name, CUDA_DEVICE)
        self.session.run_with_iobinding(binding, options)
        values = list(binding.get_outputs())
        tensors = [tensor_of(value) for value in values]
        for name, tensor, value in zip(names, tensors, values, strict=True):
            self._outputs.append(Output(name, tensor.shape, tensor.dtype, self._size))
            self._size += -(-value.tensor_size_in_bytes() // ALIGNMENT) * ALIGNMENT
        return Results(tensors, values)


class GraphRun:
    """Replays a CUDA graph for tiles and results of one shape. Each thread captures its own in its first run."""

    overwrites = True

    def __init__(self, ort: Any, session: Any, tiles: NDArray[Any], results: Results) -> None:
        self.session = session
        self._binding = session.io_binding()
        make = ort.OrtValue.ortvalue_from_shape_and_type
        self._input = make(tiles.shape, tiles.dtype, CUDA_DEVICE, 0)
        self._values = [make(tensor.shape, tensor.dtype, CUDA_DEVICE, 0) for tensor in results.tensors]
        self._binding.bind_ortvalue_input(INPUT, self._input)
        for output, value in zip(session.get_outputs(), self._values, strict=True):
            self._binding.bind_ortvalue_output(output.name, value)

    def run(self, tiles: NDArray[Any], options: Any) -> Results:
        """Run a batch and return all outputs."""
        self._input.update_inplace(np.ascontiguousarray(tiles))
        self.session.run_with_iobinding(self._binding, options)
        return Results([tensor_of(value) for value in self._values], self._values)


def tensor_of(value: Any) -> Tensor:
    """Where a value of the runtime is, and what it is."""
    return Tensor(value.data_ptr(), tuple(value.shape()), np.dtype(DTYPES[value.data_type()]))
