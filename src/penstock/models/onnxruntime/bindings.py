"""The modes in which a batch runs in a session of ONNX Runtime, all with the same method.

- PlainRun: outputs are in pageable memory of the runtime, from which a GPU's driver copies piece by piece. Any shape.
- HostBound: outputs are in our memory, page-locked for a GPU, which writes there by itself. One shape.
- DeviceBound: input and outputs keep their place on the device, which a CUDA graph needs. One shape.

The last two belong to one thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from penstock.core.device import Device
from penstock.lazy_import import lazy_import
from penstock.models.onnxruntime.memory import SMALL_BYTES, Blocks, host_blocks
from penstock.models.onnxruntime.providers import INPUT

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
else:
    np = lazy_import("numpy")

NO_GRAPH = -1
"""The graph number with which ONNX Runtime neither captures nor replays a run."""

GRAPH_BYTES = 32 * 1024 * 1024
"""The largest outputs of a batch that is worth a CUDA graph. A graph saves the launches, some microseconds for each
node, and holds its input and outputs on the device for ever; in larger batches the launches are nothing beside the work
and the copy."""


class Output(NamedTuple):
    """One output of a session for one shape of input."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def size(self) -> int:
        """The size in bytes."""
        return int(np.prod(self.shape)) * self.dtype.itemsize


class Binding(Protocol):
    """One run mode. `graph` is the number that the options of a run must have where CUDA graphs are on."""

    graph: int

    def run(self, tiles: NDArray[np.float32], options: Any) -> list[NDArray[Any]]:
        """Run a batch and return all outputs, which belong to the caller. Raises what the runtime raises."""


class PlainRun:
    """Runs a session with `session.run`, without bindings or a CUDA graph."""

    graph = NO_GRAPH

    def __init__(self, session: Any) -> None:
        self._session = session
        self.names = [output.name for output in session.get_outputs()]

    def run(self, tiles: NDArray[np.float32], options: Any) -> list[NDArray[Any]]:
        """Run a batch and return all outputs."""
        return list(self._session.run(self.names, {INPUT: tiles}, options))


class HostBound:
    """Runs with outputs in blocks of host memory. What lies on the device in between is in the arena of the runtime, so
    that no memory is held for shapes that do not run."""

    graph = NO_GRAPH

    def __init__(self, session: Any, outputs: Sequence[Output], blocks: Blocks) -> None:
        self._session = session
        self._outputs = outputs
        self._blocks = blocks

    def run(self, tiles: NDArray[np.float32], options: Any) -> list[NDArray[Any]]:
        """Run a batch and return all outputs."""
        tiles = np.ascontiguousarray(tiles, np.float32)
        results = [self._blocks.take(output.shape, output.dtype) for output in self._outputs]
        binding = self._session.io_binding()
        binding.bind_input(INPUT, "cpu", 0, tiles.dtype, tiles.shape, tiles.ctypes.data)
        for output, result in zip(self._outputs, results, strict=True):
            binding.bind_output(output.name, "cpu", 0, output.dtype, output.shape, result.ctypes.data)
        self._session.run_with_iobinding(binding, options)
        return results


class DeviceBound:
    """Runs with input and outputs in fixed buffers on the device, which the first run makes."""

    def __init__(
        self, runtime: Any, session: Any, outputs: Sequence[Output], blocks: Blocks, *, kind: str, graph: int
    ) -> None:
        self.graph = graph
        self._runtime = runtime
        self._session = session
        self._outputs = outputs
        self._blocks = blocks
        self._kind = kind
        self._binding: Any = None
        self._input: Any = None
        self._results: list[Any] = []

    def run(self, tiles: NDArray[np.float32], options: Any) -> list[NDArray[Any]]:
        """Run a batch and return all outputs."""
        if self._binding is None:
            self._place(tiles.shape)
        self._input.update_inplace(np.ascontiguousarray(tiles, np.float32))
        self._session.run_with_iobinding(self._binding, options)
        return [self._fetched(output, value) for output, value in zip(self._outputs, self._results, strict=True)]

    def _place(self, shape: tuple[int, ...]) -> None:
        self._input = self._buffer(shape, np.dtype(np.float32))
        self._results = [self._buffer(output.shape, output.dtype) for output in self._outputs]
        binding = self._session.io_binding()
        binding.bind_ortvalue_input(INPUT, self._input)
        for output, value in zip(self._outputs, self._results, strict=True):
            binding.bind_ortvalue_output(output.name, value)
        self._binding = binding

    def _buffer(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
        return self._runtime.OrtValue.ortvalue_from_shape_and_type(shape, dtype, self._kind, 0)

    def _fetched(self, output: Output, value: Any) -> NDArray[Any]:
        result = self._blocks.take(output.shape, output.dtype)
        self._runtime.OrtValue.ortvalue_from_numpy(result).update_inplace(value)
        return result


class RunModes:
    """The run modes of one session, by the shape of the batch."""

    def __init__(self, runtime: Any, session: Any, device: Device, shapes: Sequence[tuple[int, int]]) -> None:
        self.default = PlainRun(session)
        self._runtime = runtime
        self._session = session
        self._device = device
        self._shapes = shapes
        self._by_shape: dict[tuple[int, ...], Binding] = {}

    def for_shape(self, shape: tuple[int, ...]) -> Binding | None:
        """The mode for a batch of this shape; None when `remember` must choose it first."""
        return self._by_shape.get(shape) if self._device.bound else self.default

    def remember(self, shape: tuple[int, ...], results: Sequence[NDArray[Any]]) -> Binding:
        """Choose and keep the mode for this shape from the outputs of a default run: the model file does not say how
        large its outputs are."""
        outputs = [Output(name, a.shape, a.dtype) for name, a in zip(self.default.names, results, strict=True)]
        self._by_shape[shape] = mode = self._choose(shape, outputs)
        return mode

    def _choose(self, shape: tuple[int, ...], outputs: Sequence[Output]) -> Binding:
        device, blocks = self._device, host_blocks(self._device)
        repeats = shape[0] in device.batches and shape[2:] in self._shapes
        size = sum(output.size for output in outputs)
        if not (device.cuda_graphs and repeats and size <= GRAPH_BYTES):
            return self.default if size < SMALL_BYTES else HostBound(self._session, outputs, blocks)
        number = len(self._by_shape) + 1
        return DeviceBound(self._runtime, self._session, outputs, blocks, kind=device.kind, graph=number)
