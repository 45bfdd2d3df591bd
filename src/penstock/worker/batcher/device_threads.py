"""The threads on which a device is used."""

import asyncio

from penstock.core.device import Device
from penstock.worker.batcher.device_work import Runner
from penstock.worker.threads import Threads


class DeviceThreads:
    """The threads of a device. On a CPU all are in `first`, for whatever batch comes; on a GPU each runs one batch at a
    time, and `first` is the one that loads the models and runs those that must not run elsewhere."""

    def __init__(self, device: Device) -> None:
        pools, size = (1, device.streams) if device.streams > 1 else (device.in_flight, 1)
        self._all = [Threads(size, f"{device.name}-{n}") for n in range(pools)]
        self._free = list(self._all)
        self._freed = asyncio.Event()
        self.first = self._all[0]

    async def take(self, runner: Runner) -> Threads:
        """Wait for a thread on which this model may run, and take it. Only one caller may wait at a time."""
        usable = self._all if runner.concurrent else [self.first]
        while not (free := [thread for thread in self._free if thread in usable]):
            self._freed.clear()
            await self._freed.wait()
        self._free.remove(free[0])
        return free[0]

    def give_back(self, thread: Threads) -> None:
        """Let the next batch have this thread."""
        self._free.append(thread)
        self._freed.set()

    def close(self, *, wait: bool) -> None:
        """End the threads; without `wait` one that hangs is left behind."""
        for thread in self._all:
            thread.close(wait=wait)
