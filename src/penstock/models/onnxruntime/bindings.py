"""The modes in which a batch runs in a session of ONNX Runtime.

- PlainRun: the runtime copies the results by itself. Any shape.
- ArenaRun: the results stay on the device, in the arena that all sessions share. Any shape.
- GraphRun: input and results keep their place on the device, which a CUDA graph needs. One shape.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from penstock.lazy_import import lazy_import
from penstock.models.onnxruntime.providers import INPUT

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
else:
    np = lazy_import("numpy")


class PlainRun:
    """Runs a session with `session.run`."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self._names = [output.name for output in session.get_outputs()]

    def run(self, tiles: NDArray[Any], options: Any) -> list[NDArray[Any]]:
        """Run a batch and return all outputs. Raises what the runtime raises."""
        return list(self._session.run(self._names, {INPUT: tiles}, options))


class Binding(Protocol):
    """A run mode on a device.

    Where `overwrites` is true, the next run writes its results where those of the last one are.
    """

    session: Any
    overwrites: bool

    def run(self, tiles: NDArray[Any], options: Any) -> list[Any]:
        """Run a batch and return all outputs as values of the runtime, on the device, when they are complete.

        Raises what the runtime raises.
        """


class ArenaRun:
    """Runs with results in the arena, where they stay for as long as somebody holds them."""

    overwrites = False

    def __init__(self, session: Any, kind: str) -> None:
        self.session = session
        self._kind = kind
        self._names = [output.name for output in session.get_outputs()]

    def run(self, tiles: NDArray[Any], options: Any) -> list[Any]:
        """Run a batch and return all outputs."""
        tiles = np.ascontiguousarray(tiles)
        binding = self.session.io_binding()
        binding.bind_input(INPUT, "cpu", 0, tiles.dtype, tiles.shape, tiles.ctypes.data)
        for name in self._names:
            binding.bind_output(name, self._kind)
        # Synchronous: at its end the runtime waits for its stream. It releases the interpreter's lock meanwhile.
        self.session.run_with_iobinding(binding, options)
        return list(binding.get_outputs())


class GraphRun:
    """Replays a CUDA graph, which the first run captures, for tiles of one shape and results like `results`."""

    overwrites = True

    def __init__(self, ort: Any, session: Any, kind: str, tiles: NDArray[Any], results: Sequence[Any]) -> None:
        self.session = session
        self._binding = session.io_binding()
        self._input = ort.OrtValue.ortvalue_from_shape_and_type(tiles.shape, tiles.dtype, kind, 0)
        self._results = [
            ort.OrtValue.ortvalue_from_shape_and_type(value.shape(), value.element_type(), kind, 0) for value in results
        ]
        self._binding.bind_ortvalue_input(INPUT, self._input)
        for output, value in zip(session.get_outputs(), self._results, strict=True):
            self._binding.bind_ortvalue_output(output.name, value)

    def run(self, tiles: NDArray[Any], options: Any) -> list[Any]:
        """Run a batch and return all outputs."""
        self._input.update_inplace(np.ascontiguousarray(tiles))
        self.session.run_with_iobinding(self._binding, options)
        return self._results
