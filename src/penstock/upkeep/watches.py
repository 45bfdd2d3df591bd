"""Whether Redis and the storage can be used, looked at again and again, by every process that uses them."""

import asyncio
import time
from contextlib import suppress

from loguru import logger
from msgspec import Struct

from penstock.errors import StorageUnavailable, StoreUnavailable
from penstock.storage import Storage
from penstock.store import Store
from penstock.telemetry import metrics

STORE_PAUSE_S = 2.0
"""Between two looks at Redis."""

LOOK_PAUSE_S = 5.0
LOOK_AGAIN_S = 1.0
"""Between two looks at the storage: after one that was answered, and after one that was not."""

SLOW_S = 3.0
"""A look that takes longer counts as not answered until it is."""

FIRST_LOOK_S = 0.7
"""Longest wait for the first look; whoever asks later has the last one at once."""


class Look(Struct, frozen=True, kw_only=True):
    """What a look at the storage has found, and how long ago; None: all is well."""

    problem: str | None
    age_s: float


class StorageWatch:
    """Looks at the storage every few seconds, beside the work, which never waits for it. The metric `storage.up` is 1
    while the storage answers, else 0."""

    def __init__(self) -> None:
        self._problem: str | None = None
        self._at = time.monotonic()
        self._looked = asyncio.Event()
        self.was_well = asyncio.Event()
        """Set with the first look that was answered."""

    async def last(self) -> Look:
        """The last look. Waits for the first one only, and not for long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(FIRST_LOOK_S):
                await self._looked.wait()
        problem = self._problem if self._looked.is_set() else "it has not answered yet"
        return Look(problem=problem, age_s=time.monotonic() - self._at)

    async def run(self, storage: Storage) -> None:
        """Look again and again, for ever."""
        while True:
            await self._look(storage)
            await asyncio.sleep(LOOK_AGAIN_S if self._problem else LOOK_PAUSE_S)

    async def _look(self, storage: Storage) -> None:
        """A look that hangs is not left for another: in a directory it holds a thread, of which there are few."""
        started, looking = time.monotonic(), asyncio.ensure_future(_problem_of(storage))
        try:
            while not (await asyncio.wait([looking], timeout=SLOW_S))[0]:
                self._note(f"it has not answered for {time.monotonic() - started:.0f} s")
            self._note(await looking)
        finally:
            looking.cancel()

    def _note(self, problem: str | None) -> None:
        if problem and not self._problem:
            logger.bind(reason=problem).warning("the storage cannot be used")
        if self._problem and not problem:
            logger.info("the storage can be used again")
        metrics.report("storage.up", float(problem is None))
        self._problem, self._at = problem, time.monotonic()
        self._looked.set()
        if not problem:
            self.was_well.set()


async def watch_store(store: Store) -> None:
    """Set the metric `store.up` every few seconds, for ever: 1 while Redis answers and takes writes, else 0. What is
    wrong is logged when it begins, and when it changes."""
    before: str | None = None
    while True:
        problem = await _problem_of_store(store)
        metrics.report("store.up", float(problem is None))
        if problem != before:
            logger.bind(reason=problem).log(*_NEWS_OF_STORE[problem is None])
        before = problem
        await asyncio.sleep(STORE_PAUSE_S)


_NEWS_OF_STORE = {
    True: ("INFO", "the task store can be used again"),
    False: ("WARNING", "the task store cannot be used"),
}


async def _problem_of_store(store: Store) -> str | None:
    try:
        await store.ping()
    except StoreUnavailable as error:
        return error.detail
    except Exception as error:  # noqa: BLE001  the metric must not keep its last value, whatever is wrong
        logger.exception("the look at the task store failed")
        return f"the look at it failed with {type(error).__name__}"
    return None


async def _problem_of(storage: Storage) -> str | None:
    try:
        await storage.look()
    except StorageUnavailable as error:
        return error.detail
    except Exception as error:  # noqa: BLE001  what asks whether it is ready must hear so, whatever is wrong
        logger.exception("the look at the storage failed")
        return f"the look at it failed with {type(error).__name__}"
    return None
