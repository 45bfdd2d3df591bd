"""The time limit of an attempt: its own work counts, and its waits behind others do not."""

import asyncio
import math
from types import TracebackType
from typing import Self

from msgspec import Struct


class AttemptClock:
    """Cancels the block that it is entered around when that has worked for `limit_s` seconds; the block then raises
    TimeoutError.

    The clock stands inside of `standing`, and between `hold` and `resume`; both may be nested. It belongs to one event
    loop. Outside of the block it may be held and resumed, and nothing happens.
    """

    # A hold only notes the time, since a task of a small model has ten of them: the timer looks when it fires whether
    # the time is used up, and is set again if it is not.

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
        """Stop the clock: the attempt waits behind others."""
        self._holds += 1
        if self._holds == 1 and self._is_entered:
            self._left_s = self._ends_at - asyncio.get_running_loop().time()
            self._ends_at = math.inf

    def resume(self) -> None:
        """Undo one `hold`; the clock goes on after the last."""
        self._holds -= 1
        if not self._holds:
            self._run()

    def standing(self) -> "Standing":
        """Stop the clock inside of this block."""
        return Standing(self)

    def start_anew(self) -> None:
        """Give the attempt its whole time again."""
        self._left_s = self._limit_s
        if not self._holds:
            self._run()

    def _run(self) -> None:
        if self._is_entered:
            self._ends_at = asyncio.get_running_loop().time() + self._left_s
            if self._timer is None:
                self._set_timer()

    def _set_timer(self) -> None:
        if math.isfinite(self._ends_at):
            self._timer = asyncio.get_running_loop().call_at(self._ends_at, self._look)

    def _look(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time()
        if now >= self._ends_at:
            self._timeout.reschedule(now)
        else:
            self._set_timer()


class Standing(Struct, frozen=True, eq=False):
    """The clock stands inside of this block. A generator would take twice the calls, and each task has some."""

    clock: AttemptClock

    def __enter__(self) -> None:
        self.clock.hold()

    def __exit__(self, *_: object) -> None:
        self.clock.resume()
