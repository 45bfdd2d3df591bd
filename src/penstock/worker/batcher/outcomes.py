"""What the end of a batch means for its tasks: outputs, a failure, another try, or smaller batches and tiles."""

import math
import time
from collections.abc import Callable, Collection
from typing import NamedTuple

from loguru import logger

from penstock.errors import DeviceOutOfMemory, Internal, PenstockError
from penstock.models.base import DeviceBroken, Interrupted, Work
from penstock.worker.batcher.acceptance import TileErrors
from penstock.worker.batcher.backlog import Backlog
from penstock.worker.batcher.costs import LARGER_AGAIN_S
from penstock.worker.batcher.device_work import BatchKey, DeviceBatch, DeviceWork, Runner
from penstock.worker.model_code import model_code


class TooLarge(NamedTuple):
    """Tiles of so many elements are not run before the moment `until`."""

    elements: int
    until: float


class Outcomes:
    """Concludes batches. `wake` is called when tiles wait again, `lose_device` with the error of a lost device and the
    tasks that were on it. `clock` gives seconds."""

    def __init__(
        self,
        backlog: Backlog,
        *,
        wake: Callable[[], None],
        lose_device: Callable[[DeviceBroken, Collection[DeviceWork]], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._backlog = backlog
        self._wake = wake
        self._lose_device = lose_device
        self._clock = clock
        self._too_large: dict[tuple[str, str], TooLarge] = {}

    def fitting(self, runner: Runner, work: Work) -> Work:
        """This work, split into smaller tiles where the device is known not to hold those that it has."""
        elements = self._limit((runner.name, work.lane))
        if elements is None:
            return work
        with model_code("split_smaller"):
            return work.split_smaller(elements) or work

    def _limit(self, lane: tuple[str, str]) -> int | None:
        """The elements that a tile must stay below; None where none is known to be too large."""
        known = self._too_large.get(lane)
        return known.elements if known and self._clock() < known.until else None

    def conclude(self, batch: DeviceBatch, result: TileErrors | BaseException) -> None:
        """Tell each task of a batch how it ended. Never raises: a runner's own code may fail here too, which fails the
        tasks of the batch."""
        try:
            if isinstance(result, BaseException):
                self._recover(batch, result)
            else:
                _count(batch, result)
        except Exception as error:  # noqa: BLE001  or nobody would drive the device, or the tasks would never end
            for task in batch.tasks:
                task.fail(_as_ours(error))

    def forbid(self, key: BatchKey, size: int) -> int:
        """Remember for some minutes that the device cannot hold a batch of this size; returns the size that is left, 0
        when a single tile is too much."""
        left = self._backlog.costs.forbid(key, size)
        if left:
            logger.bind(key=str(key), batch=left).warning("device out of memory, batches made smaller")
        else:
            lane, elements = (key.model, key.lane), math.prod(key.shape)
            self._too_large[lane] = TooLarge(
                min(elements, self._limit(lane) or elements), self._clock() + LARGER_AGAIN_S
            )
            logger.bind(key=str(key)).warning("device out of memory, tiles made smaller")
        return left

    def forget_model(self, model: str) -> None:
        """Drop what is known of the tiles of a model that is unloaded: there may be more memory when it is back."""
        self._too_large = {lane: known for lane, known in self._too_large.items() if lane[0] != model}

    def _recover(self, batch: DeviceBatch, error: BaseException) -> None:
        if isinstance(error, DeviceBroken):
            self._lose_device(error, batch.tasks)
        elif isinstance(error, Interrupted):
            self._put_back(batch)
        elif isinstance(error, DeviceOutOfMemory):
            self._run_smaller(batch, error)
        elif len(batch.tasks) > 1:  # each runs alone now, so that one bad input fails one task
            for task in batch.tasks:
                task.alone = True
            self._put_back(batch)
        else:
            batch.lead.task.fail(_as_ours(error))

    def _run_smaller(self, batch: DeviceBatch, error: DeviceOutOfMemory) -> None:
        """Run the same tiles in smaller batches; where one alone is too much, split its task into smaller tiles."""
        task, work, _ = batch.lead
        if self.forbid(batch.lead.key, len(batch.stacked)):
            self._put_back(batch)
            return
        if work is not task.work:
            return  # another of its tiles has failed before, and the task was split then
        with model_code("split_smaller", task.log):
            smaller = work.split_smaller(math.prod(work.shape))
        if smaller is None:
            task.fail(error)
            return
        task.start_with(smaller)
        self._wake()

    def _put_back(self, batch: DeviceBatch) -> None:
        self._backlog.put_back(batch)
        self._wake()


def _count(batch: DeviceBatch, errors: TileErrors) -> None:
    for tile, error in zip(batch.tiles, errors, strict=False):
        if error is not None:  # its task fails, the others of the batch go on
            tile.task.fail(_as_ours(error))
        elif tile.is_wanted:  # a task that has failed may run again, and would count it among the tiles of that run
            tile.task.count_tile()


def _as_ours(error: BaseException) -> BaseException:
    return error if isinstance(error, PenstockError) else _unexpected(error)


def _unexpected(error: BaseException) -> Internal:
    wrapped = Internal("an unexpected error on the device; the worker's log has it under the task id")
    wrapped.__cause__ = error
    return wrapped
