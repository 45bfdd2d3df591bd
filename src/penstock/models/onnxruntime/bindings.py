"""The modes in which a batch runs in a session of ONNX Runtime.

- PlainRun: the runtime copies the results by itself. Any shape.
- EagerRun: the results stay on the device, in a block of their own. One shape.
- GraphRun: input and results keep their place on the device, which a CUDA graph needs. One shape.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from penstock.lazy_import import lazy_import
from penstock.models.onnxruntime.ports import DTYPES
from penstock.models.onnxruntime.results import DeviceBlocks, Results, Tensor

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
else:
    np = lazy_import("numpy")


Feeds = Mapping[str, "NDArray[Any]"]
"""The array of each input by its name."""

CUDA_DEVICE = "cuda"

OTHER_SHAPE = "but the computed output shape for this run is"
"""What stands in the error of a run whose output has another shape than the place that it was given."""

ALIGNMENT = 256
"""Bytes between the beginnings of two outputs in a block: `cudaMalloc` aligns to as many."""


class PlainRun:
    """Runs a session with `session.run`."""

    def __init__(self, session: Any, names: Sequence[str]) -> None:
        """`names` are the outputs that it returns."""
        self._session = session
        self._names = names

    def run(self, feeds: Feeds, options: Any) -> list[NDArray[Any]]:
        """Run a batch and return the outputs. Raises what the runtime raises."""
        return list(self._session.run(self._names, feeds, options))


class Binding(Protocol):
    """A run mode on a device, for batches of one shape.

    Where `overwrites` is true, the next run writes its results where those of the last one are.
    """

    session: Any
    overwrites: bool

    def run(self, feeds: Feeds, options: Any) -> Results:
        """Run a batch and return the outputs, on the device, when they are complete.

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
    say how large they will be. Where a later run gives outputs of other shapes, as a graph that drops overlapping boxes
    does, they are in the arena from then on."""

    overwrites = False

    def __init__(self, session: Any, names: Sequence[str], blocks: DeviceBlocks) -> None:
        """`names` are the outputs that it returns."""
        self.session = session
        self._names = names
        self._blocks = blocks
        self._outputs: list[Output] = []
        self._size = 0
        self._varies = False

    def run(self, feeds: Feeds, options: Any) -> Results:
        """Run a batch and return the outputs."""
        arrays = {name: np.ascontiguousarray(array) for name, array in feeds.items()}
        if self._outputs and not self._varies:
            try:
                return self._in_block(self._bound(arrays), options)
            except Exception as error:  # the runtime's own classes are private
                if OTHER_SHAPE not in str(error):
                    raise
            self._varies = True
        return self._in_arena(self._bound(arrays), options)

    def _bound(self, arrays: Feeds) -> Any:
        binding = self.session.io_binding()
        for name, array in arrays.items():
            binding.bind_input(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
        return binding

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
        for name in self._names:
            binding.bind_output(name, CUDA_DEVICE)
        self.session.run_with_iobinding(binding, options)
        values = list(binding.get_outputs())
        tensors = [tensor_of(value) for value in values]
        if not self._outputs:
            self._lay_out(tensors, [value.tensor_size_in_bytes() for value in values])
        return Results(tensors, values)

    def _lay_out(self, tensors: Sequence[Tensor], sizes: Sequence[int]) -> None:
        for name, tensor, size in zip(self._names, tensors, sizes, strict=True):
            self._outputs.append(Output(name, tensor.shape, tensor.dtype, self._size))
            self._size += -(-size // ALIGNMENT) * ALIGNMENT


class GraphRun:
    """Replays a CUDA graph for tiles and results of one shape. Each thread captures its own in its first run."""

    overwrites = True

    def __init__(self, ort: Any, session: Any, names: Sequence[str], feeds: Feeds, results: Results) -> None:
        """`names` are the outputs that it returns, `feeds` and `results` those of a run that it is to repeat."""
        self.session = session
        self._binding = session.io_binding()
        make = ort.OrtValue.ortvalue_from_shape_and_type
        self._inputs = {name: make(array.shape, array.dtype, CUDA_DEVICE, 0) for name, array in feeds.items()}
        self._values = [make(tensor.shape, tensor.dtype, CUDA_DEVICE, 0) for tensor in results.tensors]
        for name, value in self._inputs.items():
            self._binding.bind_ortvalue_input(name, value)
        for name, value in zip(names, self._values, strict=True):
            self._binding.bind_ortvalue_output(name, value)

    def run(self, feeds: Feeds, options: Any) -> Results:
        """Run a batch and return the outputs."""
        for name, array in feeds.items():
            self._inputs[name].update_inplace(np.ascontiguousarray(array))
        self.session.run_with_iobinding(self._binding, options)
        return Results([tensor_of(value) for value in self._values], self._values)


def tensor_of(value: Any) -> Tensor:
    """Where a value of the runtime is, and what it is."""
    return Tensor(value.data_ptr(), tuple(value.shape()), np.dtype(DTYPES[value.data_type()]))
