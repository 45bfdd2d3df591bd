"""The batches that threads of a device were given, in order."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from penstock.worker.batcher.device_work import DeviceBatch, DeviceWork


class DeviceLine:
    """The device computes one batch at a time: the time of its tasks counts, and those of the next wait behind them."""

    def __init__(self) -> None:
        self._turns: dict[DeviceBatch, ExitStack] = {}

    @property
    def tasks(self) -> set[DeviceWork]:
        """The tasks that have tiles with the device."""
        return {task for batch in self._turns for task in batch.tasks}

    @contextmanager
    def joined(self, batch: DeviceBatch) -> Iterator[None]:
        """Inside of this block a thread of the device has the batch. It begins when those before it have left."""
        self._turns[batch] = ExitStack()
        if self._first is batch:
            self._begin(batch)
        try:
            yield
        finally:
            was_first = self._first is batch
            self._turns.pop(batch).close()
            if was_first and self._first is not None:
                self._begin(self._first)

    @property
    def _first(self) -> DeviceBatch | None:
        return next(iter(self._turns), None)

    def _begin(self, batch: DeviceBatch) -> None:
        self._turns[batch].enter_context(batch)
        batch.begin()
