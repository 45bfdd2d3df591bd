"""The health of NVIDIA cards as NVML tells it: the only importer of pynvml, which is in the extra `gpu`.

The parent of the workers asks, and not the workers: it sees a card also while its worker is down, and it asks once for
each host. NVML holds no context of CUDA.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple

from loguru import logger

from penstock.lazy_import import lazy_import

metrics = lazy_import("penstock.telemetry.metrics")
pynvml = lazy_import("pynvml")

PERIOD_S = 5.0

STALE_S = 30.0
"""Older readings are not shown: a driver that hangs holds the thread that asks it, and nothing is known then."""

REOPEN_S = 60.0
"""How long a card is left alone that has given no reading: it is lost, or the driver is reloaded."""

MOST_FAULTS = 100
"""How many faults of a card are taken at a time."""

THROTTLES = {
    "power_cap": 0x04,
    "hw_slowdown": 0x08,
    "sw_thermal": 0x20,
    "hw_thermal": 0x40,
    "hw_power_brake": 0x80,
}
"""Reason -> its bit in `nvmlClocksEventReasons`. The other bits slow nothing down: idle, clocks that somebody set."""

Labels = dict[str, str]

Observed = tuple[float, Labels]
"""A value of a metric, and its labels."""


class NvmlCard(NamedTuple):
    """One card as NVML knows it. `whole` is the card that a MIG instance is part of, else the same handle."""

    handle: Any
    whole: Any
    events: Any


def watch_cards(cards: Mapping[str, str]) -> None:
    """Report the health of these cards from now on, and of those that are added later; UUIDs by the name of the device.
    Nothing is reported where there is no NVML, and no value that a card does not have."""
    if cards:
        threading.Thread(target=CardWatch(cards).run, name="nvml", daemon=True).start()


class CardWatch:
    """Reads the cards every few seconds on one thread, and gives the last readings to whoever scrapes."""

    def __init__(self, cards: Mapping[str, str], *, reopen_s: float = REOPEN_S) -> None:
        self._uuids = cards
        self._reopen_s = reopen_s
        self._is_open = False
        self._open: dict[str, NvmlCard] = {}
        self._closed_until: dict[str, float] = {}
        self._values: dict[str, list[Observed]] = {}
        self._read_at = -STALE_S
        self._xids: dict[tuple[str, int], int] = {}

    def run(self) -> None:
        """Read until the process ends."""
        try:
            self._reach_driver()
        except Exception as error:  # noqa: BLE001  no package, no library, no driver
            logger.bind(error=str(error)).info("no health of the cards is reported: NVML cannot be used")
            return
        meters = metrics.meters()
        for key in KEYS:
            meters.observe(key, partial(self.latest, key))
        while True:
            self.read()
            time.sleep(PERIOD_S)

    def latest(self, key: str) -> list[Observed]:
        """The last values of a metric; none where they are too old."""
        return self._values.get(key, []) if time.monotonic() - self._read_at < STALE_S else []

    def read(self) -> None:
        """Ask every card for all that is reported."""
        values: dict[str, list[Observed]] = {key: [] for key in KEYS}
        for device in tuple(self._uuids):  # another thread may add one
            for key, number, labels in self._readings_of(device):
                values[key].append((number, {"device": device, **labels}))
        for (device, xid), count in self._xids.items():
            values["gpu.xid.errors"].append((count, {"device": device, "xid": str(xid)}))
        self._values, self._read_at = values, time.monotonic()

    def _reach_driver(self) -> None:
        if not self._is_open:
            pynvml.nvmlInit()
            self._is_open = True

    def _readings_of(self, device: str) -> list[Reading]:
        card = self._card(device)
        if card is None:
            return []
        self._count_xids(device, card)
        readings = [reading for ask in ASK for reading in _asked(ask, card)]
        if not readings:
            self._let_go(device)
        return readings

    def _card(self, device: str) -> NvmlCard | None:
        if device not in self._open and time.monotonic() >= self._closed_until.get(device, 0.0):
            try:
                self._reach_driver()
                self._open[device] = _opened(self._uuids[device])
            except pynvml.NVMLError:
                self._closed_until[device] = time.monotonic() + self._reopen_s
        return self._open.get(device)

    def _let_go(self, device: str) -> None:
        """Leave a card alone that is lost, and with it, for a moment, all others: it can be reset, and its driver be
        reloaded, only while no process holds it."""
        self._open.clear()
        self._is_open = False
        self._closed_until[device] = time.monotonic() + self._reopen_s
        with suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()

    def _count_xids(self, device: str, card: NvmlCard) -> None:
        with suppress(pynvml.NVMLError):  # the timeout, when there is no more
            for _ in range(MOST_FAULTS if card.events is not None else 0):
                xid = int(pynvml.nvmlEventSetWait_v2(card.events, 0).eventData)
                self._xids[device, xid] = self._xids.get((device, xid), 0) + 1
                logger.bind(device=device, xid=xid).error("the driver reports a fault of the card")


class Reading(NamedTuple):
    """One value of a metric, with the labels that it has beside the device."""

    key: str
    value: float
    labels: Labels


def _utilization(card: NvmlCard) -> Iterator[Reading]:
    yield Reading("gpu.utilization", pynvml.nvmlDeviceGetUtilizationRates(card.whole).gpu / 100, {})


def _memory(card: NvmlCard) -> Iterator[Reading]:
    memory = pynvml.nvmlDeviceGetMemoryInfo(card.handle)
    yield Reading("gpu.memory.used", memory.used, {})
    yield Reading("gpu.memory.total", memory.total, {})


def _temperature(card: NvmlCard) -> Iterator[Reading]:
    yield Reading("gpu.temperature", pynvml.nvmlDeviceGetTemperature(card.whole, pynvml.NVML_TEMPERATURE_GPU), {})


def _clock(card: NvmlCard) -> Iterator[Reading]:
    yield Reading("gpu.clock", pynvml.nvmlDeviceGetClockInfo(card.whole, pynvml.NVML_CLOCK_SM) * 1e6, {})


def _power(card: NvmlCard) -> Iterator[Reading]:
    yield Reading("gpu.power", pynvml.nvmlDeviceGetPowerUsage(card.whole) / 1000, {})


def _energy(card: NvmlCard) -> Iterator[Reading]:
    yield Reading("gpu.energy", pynvml.nvmlDeviceGetTotalEnergyConsumption(card.whole) / 1000, {})  # since Volta


def _throttles(card: NvmlCard) -> Iterator[Reading]:
    # The newer name of this function is missing in drivers before 535.
    bits = pynvml.nvmlDeviceGetCurrentClocksThrottleReasons(card.whole)
    yield from (Reading("gpu.throttled", bool(bits & bit), {"reason": reason}) for reason, bit in THROTTLES.items())


def _ecc(card: NvmlCard) -> Iterator[Reading]:
    kinds = {
        "gpu.ecc.corrected": pynvml.NVML_MEMORY_ERROR_TYPE_CORRECTED,
        "gpu.ecc.uncorrected": pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED,
    }
    for key, kind in kinds.items():
        yield Reading(key, pynvml.nvmlDeviceGetTotalEccErrors(card.whole, kind, pynvml.NVML_VOLATILE_ECC), {})


ASK: tuple[Callable[[NvmlCard], Iterable[Reading]], ...] = (
    *(_utilization, _memory, _temperature, _clock),
    *(_power, _energy, _throttles, _ecc),
)

KEYS = (
    *("gpu.utilization", "gpu.memory.used", "gpu.memory.total", "gpu.temperature", "gpu.clock"),
    *("gpu.power", "gpu.energy"),
    *("gpu.throttled", "gpu.ecc.corrected", "gpu.ecc.uncorrected", "gpu.xid.errors"),
)
"""The metrics that are reported here."""


def _asked(ask: Callable[[NvmlCard], Iterable[Reading]], card: NvmlCard) -> list[Reading]:
    try:
        return list(ask(card))
    except pynvml.NVMLError:  # not supported by this card, or the card is lost
        return []


def _opened(uuid: str) -> NvmlCard:
    handle = whole = pynvml.nvmlDeviceGetHandleByUUID(uuid)
    if uuid.startswith("MIG-"):
        whole = pynvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(handle)
    return NvmlCard(handle, whole, _events(whole))


def _events(whole: Any) -> Any:
    """The set of events with the faults (Xid) that the driver reports; None where it reports none, as on WSL."""
    try:
        events = pynvml.nvmlEventSetCreate()
        pynvml.nvmlDeviceRegisterEvents(whole, pynvml.nvmlEventTypeXidCriticalError, events)
    except pynvml.NVMLError:
        return None
    return events
