"""Watches of what a process runs on: its event loop, and the disks that it writes to."""

import asyncio
import shutil
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress

from penstock.settings import Settings
from penstock.telemetry import metrics

LOOP_PAUSE_S = 0.5
"""Whatever holds up the loop for longer is seen for certain, and what is shorter in proportion."""

DISK_PAUSE_S = 15.0
"""As often as Prometheus looks."""

SLOW_S = 3.0
"""A disk that does not tell its room within this time is not shown until it does."""


async def watch_loop() -> None:
    """Record how late the event loop of this process is, in `loop.lag`, until cancelled."""
    while True:
        due = time.monotonic() + LOOP_PAUSE_S
        await asyncio.sleep(LOOP_PAUSE_S)
        metrics.report("loop.lag", max(0.0, time.monotonic() - due))


def disks_of(settings: Settings, *, has_spool: bool) -> dict[str, str]:
    """Return the directories of a process that writes results: the local storage, and of a worker the spool."""
    storage = {"storage": settings.storage.directory} if settings.storage.local else {}
    return storage | ({"spool": settings.worker.spool_directory or tempfile.gettempdir()} if has_spool else {})


async def watch_disks(disks: Mapping[str, str]) -> None:
    """Set `disk.free` and `disk.size` of these directories, by their names, until cancelled. One that is not there, or
    whose disk hangs, has none."""
    while True:
        looking = asyncio.ensure_future(asyncio.to_thread(_sizes, disks))
        try:
            if not (await asyncio.wait([looking], timeout=SLOW_S))[0]:
                _show({})
            _show(await looking)
        finally:
            looking.cancel()
        await asyncio.sleep(DISK_PAUSE_S)


def _sizes(disks: Mapping[str, str]) -> dict[str, tuple[int, int]]:
    """The free bytes of each disk, and all of its bytes."""
    found: dict[str, tuple[int, int]] = {}
    for place, directory in disks.items():
        with suppress(OSError):
            usage = shutil.disk_usage(directory)
            found[place] = usage.free, usage.total
    return found


def _show(sizes: Mapping[str, tuple[int, int]]) -> None:
    meters = metrics.meters()
    meters.replace("disk.free", [(free, {"place": place}) for place, (free, _) in sizes.items()])
    meters.replace("disk.size", [(total, {"place": place}) for place, (_, total) in sizes.items()])
