"""The devices of this host that are down: told of until they are back."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Set

from loguru import logger
from msgspec import Struct

from penstock.lazy_import import lazy_import
from penstock.local.deaths import Life

metrics = lazy_import("penstock.telemetry.metrics")

TELL_DOWN_S = 5.0
"""How often it is told that a device is down, so that whoever hears of it may forget what is no longer told."""


class OnDevice(Struct, frozen=True, kw_only=True, eq=False):
    """What becomes of a worker that cannot run on its device: it is marked down, and tried again every `retry_s`.

    While it is down, `is_down` is awaited every TELL_DOWN_S with the reason and the second since when (of `time.time`),
    and `came_back` when it is ready again.
    """

    device: str
    retry_s: float
    is_down: Callable[[str, float], Awaitable[None]]
    came_back: Callable[[], Awaitable[None]]


class DownDevices:
    """The workers that cannot run on their device, by the names of their children."""

    def __init__(self) -> None:
        self._reasons: dict[str, str] = {}
        self._tellers: dict[str, asyncio.Task[None]] = {}
        self._devices: dict[str, OnDevice] = {}
        self._is_closed = False

    def names(self) -> Set[str]:
        """The names of the children whose device is down."""
        return self._reasons.keys()

    def show(self, on: OnDevice) -> None:
        """Show a device in the metrics, as one that is not down."""
        metrics.report("worker.device.down", 0, device=on.device)

    def mark(self, name: str, on: OnDevice, life: Life) -> None:
        """Note that the device of a child is down, with the reason that its worker gave, and tell of it from now on."""
        reason = life.reason or f"its worker ended with status {life.status}; the log says why"
        self._reasons[name], self._devices[name] = reason, on
        metrics.report("worker.device.down", 1, device=on.device)
        down = logger.bind(device=on.device, reason=reason, retry_s=on.retry_s)
        down.error("device down: its worker cannot run, and is started again later")
        if name not in self._tellers and not self._is_closed:
            self._tellers[name] = asyncio.create_task(self._tell(name))

    async def unmark(self, name: str) -> None:
        """Note that the worker of a child is ready. Nothing happens if its device was not down."""
        if self._reasons.pop(name, None) is not None:
            device = self._devices[name].device
            metrics.report("worker.device.down", 0, device=device)
            logger.bind(device=device).info("device is back")
            await self._end_telling(name)

    async def close(self) -> None:
        """Tell of no device any more, also of one that is marked later."""
        self._is_closed = True
        await asyncio.gather(*(self._end_telling(name) for name in tuple(self._tellers)))

    async def _tell(self, name: str) -> None:
        since = time.time()
        while True:
            await attempted(name, self._devices[name].is_down(self._reasons[name], since))
            await asyncio.sleep(TELL_DOWN_S)

    async def _end_telling(self, name: str) -> None:
        teller = self._tellers.pop(name, None)
        if teller is None:
            return
        teller.cancel()
        await asyncio.gather(teller, return_exceptions=True)
        await attempted(name, self._devices[name].came_back())


async def attempted(child: str, report: Awaitable[None]) -> None:
    """Await what tells others of the end or the return of a child. Its failure is logged, and the child goes on."""
    try:
        await report
    except Exception:  # noqa: BLE001  whatever it is
        logger.bind(child=child).exception("what happened to a child could not be reported")
