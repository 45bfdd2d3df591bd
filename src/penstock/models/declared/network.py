"""The network of a declared model on a device: opened, compared with its fp16 twin, and run in batches as the graph
allows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from penstock.lazy_import import lazy_import
from penstock.models.onnxruntime.bindings import Feeds
from penstock.models.onnxruntime.network import Inputs, NetworkSession
from penstock.models.onnxruntime.ports import Ports

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
else:
    np = lazy_import("numpy")

Arrays = Sequence["NDArray[Any]"]
"""What the graph gives for one tile, each array with its batch axis where it has one."""

FREE, NONE = 0, -1
"""Sizes of a batch: any, and that of a graph without a batch axis."""


class DeclaredNetwork:
    """Runs batches of tiles. `batch` is how many the graph takes at a time: a number, FREE or NONE."""

    def __init__(self, session: NetworkSession, batch: int) -> None:
        self._session = session
        self.batch = batch

    @property
    def ports(self) -> Ports:
        """The inputs of the graph, and the outputs that are read."""
        return self._session.ports

    def run(self, inputs: Inputs, owner: object) -> list[Arrays]:
        """Run tiles, stacked along a leading axis, and return the outputs for each; those have a batch axis of one
        where the graph's have one. Raises what a session raises, and InvalidOutput."""
        stacked = inputs if isinstance(inputs, Mapping) else {self.ports.inputs[0].name: inputs}
        count = len(next(iter(stacked.values())))
        if self.batch == NONE:
            return self.run_whole(
                [{name: array[n, ...] for name, array in stacked.items()} for n in range(count)], owner
            )
        if self.batch == FREE and count > 1:
            return _split(self._session.run(stacked, owner=owner), count)
        if self.batch > 1:
            chunks = [_padded(stacked, first, self.batch) for first in range(0, count, self.batch)]
            runs = self._session.run_each(chunks, owner=owner)
            return [tile for run in runs for tile in _split(run, self.batch)][:count]
        return self.run_whole(
            [{name: array[n : n + 1] for name, array in stacked.items()} for n in range(count)], owner
        )

    def run_whole(self, parts: Sequence[Feeds], owner: object) -> list[Arrays]:
        """Run each as it is, one after another, and return the outputs of each as the graph gives them."""
        return list(self._session.run_each(parts, owner=owner))

    def interrupt(self, owner: object) -> None:
        """Make the present runs of this owner raise Interrupted."""
        self._session.interrupt(owner)

    def close(self) -> None:
        """Give back the memory of the weights."""
        self._session.close()


def _split(outputs: Sequence[NDArray[Any]], count: int) -> list[Arrays]:
    for output in outputs:
        if output.shape[:1] != (count,):
            raise MixedBatch(f"the graph gave {list(output.shape)} for {count} inputs")
    return [[output[n : n + 1] for output in outputs] for n in range(count)]


class MixedBatch(Exception):
    """The outputs of a batch cannot be told apart: the graph takes one input at a time."""


def _padded(stacked: Feeds, first: int, size: int) -> dict[str, NDArray[Any]]:
    chunk = {name: array[first : first + size] for name, array in stacked.items()}
    missing = size - len(next(iter(chunk.values())))
    return {name: np.pad(array, [(0, missing), *[(0, 0)] * (array.ndim - 1)]) for name, array in chunk.items()}
