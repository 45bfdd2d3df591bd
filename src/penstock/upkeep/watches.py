"""Watches of Redis and the storage: every process checks again and again whether it can use them."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

from loguru import logger
from msgspec import Struct

from penstock.errors import StorageUnavailable, StoreUnavailable
from penstock.storage import Storage
from penstock.store import Shards
from penstock.telemetry import metrics

STORE_PAUSE_S = 2.0
"""Pause between two checks of Redis."""

CHECK_PAUSE_S = 5.0
RETRY_PAUSE_S = 1.0
"""Pause after a check of the storage that succeeded, and after one that failed."""

SLOW_S = 3.0
"""A check that takes longer counts as failed until it is answered."""

FIRST_CHECK_S = 0.7
"""Longest wait for the first check. Later ones are never waited for."""


class StorageCheck(Struct, frozen=True, kw_only=True):
    """The result of the last check of the storage, and its age. `problem` is None when the storage can be used."""

    problem: str | None
    age_s: float


class StorageWatch:
    """Checks the storage every few seconds, beside the work, which never waits for it.

    The metric `storage.up` is 1 while the storage answers, else 0.
    """

    def __init__(self) -> None:
        self._problem: str | None = None
        self._at = time.monotonic()
        self._checked = asyncio.Event()
        self.succeeded = asyncio.Event()
        """Set at the first check that succeeded."""

    async def last(self) -> StorageCheck:
        """The result of the last check. Only the first one is waited for, at most FIRST_CHECK_S."""
        with suppress(TimeoutError):
            async with asyncio.timeout(FIRST_CHECK_S):
                await self._checked.wait()
        problem = self._problem if self._checked.is_set() else "it has not answered yet"
        return StorageCheck(problem=problem, age_s=time.monotonic() - self._at)

    async def run(self, storage: Storage) -> None:
        """Check the storage until cancelled."""
        while True:
            await self._check(storage)
            await asyncio.sleep(RETRY_PAUSE_S if self._problem else CHECK_PAUSE_S)

    async def _check(self, storage: Storage) -> None:
        # A check that hangs is not abandoned for another one: with a directory it holds a thread, and these are few.
        started, checking = time.monotonic(), asyncio.ensure_future(_problem_of("storage", storage.check))
        try:
            while not (await asyncio.wait([checking], timeout=SLOW_S))[0]:
                self._note(f"it has not answered for {time.monotonic() - started:.0f} s")
            self._note(await checking)
        finally:
            checking.cancel()

    def _note(self, problem: str | None) -> None:
        if problem and not self._problem:
            logger.bind(reason=problem).warning("the storage cannot be used")
        if self._problem and not problem:
            logger.info("the storage can be used again")
        metrics.report("storage.up", float(problem is None))
        self._problem, self._at = problem, time.monotonic()
        self._checked.set()
        if not problem:
            self.succeeded.set()


async def watch_store(shards: Shards) -> None:
    """Set the metric `store.up` every few seconds until cancelled: 1 while Redis answers and accepts writes, else 0.

    A problem is logged when it begins and when it changes.
    """
    before: str | None = None
    while True:
        problem = await _problem_of("task store", shards.ping)
        metrics.report("store.up", float(problem is None))
        if problem != before:
            if problem:
                logger.bind(reason=problem).warning("the task store cannot be used")
            else:
                logger.info("the task store can be used again")
        before = problem
        await asyncio.sleep(STORE_PAUSE_S)


async def _problem_of(name: str, check: Callable[[], Awaitable[None]]) -> str | None:
    """Why the check failed; None when it did not."""
    try:
        await check()
    except (StoreUnavailable, StorageUnavailable) as error:
        return error.detail
    except Exception as error:  # noqa: BLE001  /readyz and the metrics must report it, whatever is wrong
        logger.bind(checked=name).exception("a check failed by a fault of the server")
        return f"the check of it failed with {type(error).__name__}"
    return None
