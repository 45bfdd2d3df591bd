"""The time of an attempt: what it works itself, not what it waits behind others."""

import asyncio
import math
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self


class AttemptClock:
    """Cancels the block that it is entered around, which then raises TimeoutError, when that has worked for `limit_s`
    seconds. The clock stands while `standing` or between `hold` and `resume`, which may be nested. Used on one event
    loop only; outside of the block it may be held and resumed, and nothing happens.

    A hold only notes the time, since a task of a small model has ten of them: the timer looks when it fires whether
    the time is used up, and is set again if it is not.
    """

    def __init__(self, limit_s: float = math.inf) -> None:
        self._limit_s = limit_s
        self._left_s = limit_s
        self._ends_at = math.inf
        self._holds = 0
        self._timeout = asyncio.timeout(None)
        self._timer: asyncio.TimerHandle | None = None
        self._is_entered = False

    async def __aenter__(self) -> Self:
        await self._timeout.__aenter__()
        self._is_entered = True
        self._run()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_entered = False
        if self._timer is not None:
            self._timer.cancel()
        await self._timeout.__aexit__(kind, error, trace)

    @property
    def has_expired(self) -> bool:
        """Whether the time was used up."""
        return self._timeout.expired()

    @property
    def is_standing(self) -> bool:
        """Whether the attempt waits behind others."""
        return self._holds > 0

    def hold(self) -> None:
        """From here on the attempt waits behind others."""
        self._holds += 1
        if self._holds == 1 and self._is_entered:
            self._left_s = self._ends_at - asyncio.get_running_loop().time()
            self._ends_at = math.inf

    def resume(self) -> None:
        """What it waited for since the `hold` is there."""
        self._holds -= 1
        if not self._holds:
            self._run()

    @contextmanager
    def standing(self) -> Iterator[None]:
        """For a wait behind others."""
        self.hold()
        try:
            yield
        finally:
            self.resume()

    def start_anew(self) -> None:
        """What was done so far does not count."""
        self._left_s = self._limit_s
        if not self._holds:
            self._run()

    def _run(self) -> None:
        if self._is_entered:
            self._ends_at = asyncio.get_running_loop().time() + self._left_s
            self._set_timer()

    def _set_timer(self) -> None:
        if self._timer is None and math.isfinite(self._ends_at):
            self._timer = asyncio.get_running_loop().call_at(self._ends_at, self._look)

    def _look(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time()
        if now >= self._ends_at:
            self._timeout.reschedule(now)
        else:
            self._set_timer()
