"""What threads do with a batch: its tiles are stacked, the model runs, and the time that the device computed counts."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from penstock.core.device import Device
from penstock.errors import InvalidOutput
from penstock.lazy_import import lazy_import
from penstock.models.base import Outputs
from penstock.models.device_time import DeviceTime, device_time
from penstock.models.onnxruntime.memory import host_blocks
from penstock.telemetry import metrics
from penstock.worker.batcher.batch_spans import traced_batch
from penstock.worker.batcher.costs import Costs
from penstock.worker.batcher.device_work import DeviceBatch, Stacked, TileRef
from penstock.worker.model_code import model_code
from penstock.worker.task_log import TaskLog

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
else:
    np = lazy_import("numpy")

Arrays: TypeAlias = "Callable[[tuple[int, ...], Any], NDArray[Any]]"
"""Makes an array of a shape and type, with arbitrary values."""


REMEMBERED = 256
"""How many runs are remembered with their times: as many as may begin and end beside one that is long."""


class TimeSpan(NamedTuple):
    """The time between two moments."""

    since: float
    until: float


class DeviceRuns:
    """Runs batches on a device, and notes in `costs` what they took. Any thread may call its methods."""

    def __init__(self, device: Device, costs: Costs) -> None:
        self._device = device
        self._costs = costs
        self._clock = DeviceClock()
        # From page-locked memory a GPU reads by itself.
        self._page_locked: Arrays | None = host_blocks(device).take if device.kind == "cuda" else None

    def stack(self, tiles: list[TileRef]) -> Stacked:
        """One array of the pixels of these tiles, padded to a batch size that the device knows; for a runner that takes
        one at a time, a list of it as it is."""
        work = tiles[0].work
        if tiles[0].task.runner.one_at_a_time:
            with model_code("tile", *_logs_of(tiles)):
                return [tile.work.tile(tile.tile) for tile in tiles]
        sizes = self._device.batches
        size = sizes[bisect_left(sizes, len(tiles))]
        # No device reads objects.
        array = self._page_locked if self._page_locked and not work.dtype.hasobject else np.empty
        pixels = array((size, *work.shape), work.dtype)
        with model_code("write_tile", *_logs_of(tiles)):
            for tile, place in zip(tiles, pixels, strict=False):
                tile.work.write_tile(tile.tile, place)
        pixels[len(tiles) :] = 0
        return pixels

    @traced_batch
    def infer(self, batch: DeviceBatch, on_computed: Callable[[], None] | None = None) -> Outputs:
        """The outputs of a batch that was stacked. On a GPU `on_computed` is called before they are copied, by models
        that note their time.

        Raises what the model raises, and InvalidOutput for another number of outputs than the batch has.
        """
        runner, device = batch.lead.task.runner, self._device
        if device.streams == 1:
            outputs, took_s, copy_s = self._timed_on_gpu(batch, on_computed)
        else:
            (outputs, took_s), copy_s = _timed(batch), 0.0
        reached_at = time.monotonic() - copy_s - took_s
        if took_s:  # none is left where other runs have taken all of its time: that tells nothing of this batch
            self._costs.note(batch.lead.key, len(batch.stacked), took_s)
        metrics.report("device.busy", took_s / device.streams, device=device.name)
        metrics.report("device.batch.tiles", len(batch.tiles), model=runner.name, device=device.name)
        for task in batch.tasks:
            task.reached_device = task.reached_device or reached_at
        share_s = took_s / len(batch.tiles)
        for tile in batch.tiles:
            tile.task.device_s += share_s  # no call in this line: another thread may add to the same task
        _check_count(outputs, len(batch.stacked))
        return outputs

    def _timed_on_gpu(self, batch: DeviceBatch, on_computed: Callable[[], None] | None) -> tuple[Outputs, float, float]:
        began = time.perf_counter()
        with device_time(on_computed) as noted:
            outputs = _infer(batch)
        took_s = self._clock.take(began, time.perf_counter(), noted)
        if noted.copy_s is not None:
            metrics.report("device.copy", noted.copy_s, device=self._device.name)
        return outputs, took_s, noted.copy_s or 0.0


def _timed(batch: DeviceBatch) -> tuple[Outputs, float]:
    began = time.perf_counter()  # each run of a CPU has a core of its own
    outputs = _infer(batch)
    return outputs, time.perf_counter() - began


def _infer(batch: DeviceBatch) -> Outputs:
    task, work, _ = batch.lead
    with model_code("infer", *_logs_of(batch.tiles)):
        return task.runner.infer(batch.stacked, work)


def _logs_of(tiles: Sequence[TileRef]) -> list[TaskLog]:
    if len(tiles) == 1:
        return [tiles[0].task.log]
    return [task.log for task in {tile.task for tile in tiles}]


def _check_count(outputs: Any, tiles: int) -> None:
    if not (hasattr(outputs, "__len__") and hasattr(outputs, "__getitem__")) or isinstance(outputs, Mapping):
        raise InvalidOutput(f"the runner gave a {type(outputs).__name__} where outputs for {tiles} tiles are expected")
    if len(outputs) != tiles:
        raise InvalidOutput(f"the runner gave {len(outputs)} outputs for {tiles} tiles")


class DeviceClock:
    """Shares out the time of a device that computes one batch at a time, so that no second counts twice."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._noted: deque[TimeSpan] = deque(maxlen=REMEMBERED)
        self._others: deque[TimeSpan] = deque(maxlen=REMEMBERED)

    def take(self, began: float, ended: float, noted: DeviceTime) -> float:
        """Returns the seconds that a run computed which was with the device between two moments of one clock: those
        that it has noted, else all, without what other runs have taken. Any thread may call this when its run has
        ended."""
        # The copy of the results is what a run that notes does last: from there on the device computes for others.
        until = ended - (noted.copy_s or 0.0)
        with self._lock:
            if noted.compute_s is None:
                left = _left(TimeSpan(began, until), (*self._noted, *self._others))
                self._others.extend(left)
            else:  # what notes its time waits for its turn, so that two such runs never compute at once
                left = _left(TimeSpan(until - noted.compute_s, until), self._others)
                self._noted.extend(left)
        return sum(span.until - span.since for span in left)


def _left(span: TimeSpan, taken: Iterable[TimeSpan]) -> list[TimeSpan]:
    """The parts of a span that are in none of the others."""
    left = [span]
    for low, high in [one for one in taken if one.since < span.until and span.since < one.until]:
        parts = [part for a, b in left for part in (TimeSpan(a, min(b, low)), TimeSpan(max(a, high), b))]
        left = [part for part in parts if part.since < part.until]
    return left
