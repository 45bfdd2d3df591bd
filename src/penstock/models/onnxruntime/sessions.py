"""The runtime's sessions of one file: how many there are, and which of them runs a batch."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import Lock
from traceback import clear_frames
from typing import TYPE_CHECKING, Any, Protocol

from penstock.core.device import Device
from penstock.errors import DeviceOutOfMemory
from penstock.models.device_time import note_device_time
from penstock.models.onnxruntime import faults
from penstock.models.onnxruntime.bindings import Binding, EagerRun, Feeds, GraphRun, PlainRun
from penstock.models.onnxruntime.cuda_device import CudaDevice
from penstock.models.onnxruntime.memory import host_blocks
from penstock.models.onnxruntime.ports import Ports, ports_of
from penstock.models.onnxruntime.results import Results
from penstock.models.onnxruntime.runtime import runtime

if TYPE_CHECKING:
    from numpy.typing import NDArray

KEPT = 96
"""How many sessions of a file are kept, for as many shapes of batches. One takes about 10 ms to open and the memory of
the weights, some megabytes."""

WEIGHTS_BYTES = 512 * 1024 * 1024
"""All sessions of a file together hold at most so many bytes of weights, where one does not hold more."""

GRAPH_BYTES = 32 * 1024 * 1024
"""The largest outputs of a batch that is worth a CUDA graph. A graph saves the launches, some microseconds for each
node, and holds its input and outputs on the device for ever; in larger batches the launches are nothing beside the work
and the copy."""

PAIRED_BYTES = 256 * 1024 * 1024
"""The largest weights that a CPU holds twice: a second session has its own."""

FEWEST = 8
"""Where fewer sessions than these would fit, one of another shape would be opened for nearly each batch, which takes
longer than the plans of cuDNN that it saves."""

SHRINK = "memory.enable_memory_arena_shrinkage"
"""The option of a run that returns unused memory of an arena to the device when the run ends, also when it fails."""

STOPPED = "terminate flag"
"""What stands in the error of a run that was told to stop, which ends between two nodes."""


class Sessions(Protocol):
    """Runs the batches of one file. Any thread may call it."""

    provider: str
    ports: Ports

    def run(self, feeds: Feeds, options: Any) -> list[NDArray[Any]]:
        """Run one batch and return the outputs. Raises what the runtime raises."""

    def close(self) -> None:
        """Drop the sessions of the runtime. No run may be going on, and none may follow."""


class PairedSessions:
    """Two sessions, for a device of several streams: a run that is alone in the process uses every thread of the
    device, and runs that meet use their share each. A device of one stream has one session."""

    def __init__(
        self,
        device: Device,
        open_session: Callable[[int], Any],
        outputs: Sequence[str] = (),
        weights_bytes: int = 0,
    ) -> None:
        """`open_session` takes a number of threads; `outputs` are those that runs return, all unless some are named.
        Weights of more than PAIRED_BYTES are held by one session alone, with the threads of a run that meets others."""
        share, is_paired = max(1, device.threads // device.streams), weights_bytes <= PAIRED_BYTES
        session = open_session(device.threads if is_paired else share)
        self.provider = str(session.get_providers()[0])
        self.ports = ports_of(session, outputs)
        names = self.ports.output_names
        self._alone = self._meeting = PlainRun(session, names)
        if is_paired and device.streams > 1:
            self._meeting = PlainRun(open_session(share), names)

    def run(self, feeds: Feeds, options: Any) -> list[NDArray[Any]]:
        """Run one batch and return the outputs."""
        with _counted() as others:
            return (self._meeting if others else self._alone).run(feeds, options)

    def close(self) -> None:
        """Drop both sessions."""
        del self._alone, self._meeting


_runs = 0
_runs_lock = Lock()


@contextmanager
def _counted() -> Iterator[int]:
    """Yield how many other runs go on in this process, which has one device."""
    global _runs
    with _runs_lock:
        others, _runs = _runs, _runs + 1
    try:
        yield others
    finally:
        with _runs_lock:
            _runs -= 1


class OpenOnDevice(Protocol):
    """Opens a session on a card."""

    def __call__(self, *, for_graph: bool) -> Any:
        """Return a session of the runtime; one for a graph has an arena of its own."""


class ShapeSessions:
    """A session for each shape of batch, all in the arena of the card; at most KEPT of them.

    Every convolution of a session keeps one plan of cuDNN, for the shape that ran last, and a plan takes about a
    millisecond to make: with one session for all, a batch of another shape would cost as much as a run.

    A run computes alone. Its results are copied beside the next run, which another thread may begin meanwhile.
    """

    def __init__(
        self,
        card: CudaDevice,
        device: Device,
        open_session: OpenOnDevice,
        outputs: Sequence[str] = (),
        weights_bytes: int = 0,
    ) -> None:
        """`outputs` are those that are returned, all unless some are named. With TensorRT, and where the weights are so
        large that few sessions would fit, one session runs every shape."""
        self._card = card
        self._device = device
        self._blocks = host_blocks(device)
        self._open = open_session
        fitting = WEIGHTS_BYTES // max(1, weights_bytes)
        self._one_for_all = device.tensorrt or fitting < FEWEST
        self._kept = KEPT if self._one_for_all else min(KEPT, fitting)
        self._modes: OrderedDict[tuple[Any, ...], Binding] = OrderedDict()  # the longest unused first
        with card.computing():
            self._spare: Any = open_session(for_graph=False)  # tells whether the file can run here at all
        self.provider = str(self._spare.get_providers()[0])
        self.ports = ports_of(self._spare, outputs)

    def run(self, feeds: Feeds, options: Any) -> list[NDArray[Any]]:
        """Run one batch and return the outputs. After an out-of-memory, memory that the arena does not use is returned
        to the device, and the run begun again."""
        key = tuple((name, array.dtype.str, *array.shape) for name, array in feeds.items())
        with self._card.computing():
            started = time.perf_counter()
            results = self._computed(key, feeds, options)
            note_device_time(compute_s=time.perf_counter() - started)
            if self._device.cuda_graphs:
                if _is_small(results) and not self._modes[key].overwrites:
                    self._take_graph(key, feeds, results)
                # A replay overwrites its results; and while a graph is captured, no thread may lock or free memory.
                return self._card.to_host(results, self._blocks)
        return self._card.to_host(results, self._blocks)

    def close(self) -> None:
        """Drop all sessions; the weights are not in the arena."""
        with self._card.computing():
            self._modes.clear()
            self._spare = None

    def _computed(self, key: tuple[Any, ...], feeds: Feeds, options: Any) -> Results:
        for shrink in ("gpu:0", ""):
            try:
                return self._tried(key, feeds, options)
            except Exception as error:  # the runtime's own classes are private
                if not isinstance(faults.of_run(error), DeviceOutOfMemory):
                    raise
            # The arena is full of blocks for other shapes, or other processes have filled the device. The second run
            # may fail like the first, and shrinks the arena when it ends; the third has what there is.
            options.add_run_config_entry(SHRINK, shrink)
        return self._tried(key, feeds, options)

    def _tried(self, key: tuple[Any, ...], feeds: Feeds, options: Any) -> Results:
        mode = self._mode(key)
        try:
            return mode.run(feeds, options)
        except Exception as error:  # as above
            # A convolution notes the shape before it has its memory and its plan. If that failed, it would take the
            # next batch of this shape for one that it knows, and run without a plan (seen: a segmentation fault).
            if STOPPED not in str(error):
                del self._modes[key], mode
                if self._one_for_all and not self._device.tensorrt:
                    self._modes.clear()
                    self._spare = None
                clear_frames(error.__traceback__)  # or the session is closed with the error, beside another run
            raise

    def _mode(self, key: tuple[Any, ...]) -> Binding:
        mode = self._modes.get(key)
        if mode is None:
            self._modes[key] = mode = EagerRun(self._session(), self.ports.output_names, self._card.blocks)
            if len(self._modes) > self._kept:
                self._modes.popitem(last=False)
        self._modes.move_to_end(key)
        return mode

    def _session(self) -> Any:
        session = self._spare or self._open(for_graph=False)
        self._spare = session if self._one_for_all else None
        return session

    def _take_graph(self, key: tuple[Any, ...], feeds: Feeds, results: Results) -> None:
        """Let the next batch of this shape run as a graph, where the device has room for one."""
        try:
            graph = GraphRun(runtime(), self._open(for_graph=True), self.ports.output_names, feeds, results)
        except Exception as error:  # as above
            if not isinstance(faults.of_run(error), DeviceOutOfMemory):
                raise
        else:
            self._spare, self._modes[key] = self._modes[key].session, graph


def _is_small(results: Results) -> bool:
    return sum(math.prod(tensor.shape) * tensor.dtype.itemsize for tensor in results.tensors) <= GRAPH_BYTES
