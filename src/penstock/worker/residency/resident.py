"""One model on a worker: where it is, who uses it, and who waits for it."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Mapping
from itertools import count

from msgspec import Struct, field

from penstock.core.model import Member, Residence, ResidenceState
from penstock.core.task import PRIORITIES, Priority
from penstock.errors import ModelUnavailable
from penstock.models.base import DeviceBroken
from penstock.worker.batcher.device_work import Runner
from penstock.worker.task_log import TaskLog

FAILED_FOR_S = 10.0
"""A model that could not be loaded is tried again after this time, for a task that asks for it. Until then this worker
claims none of its tasks: it would fail them all, faster than another worker can run them."""

FAILED_LOADS = 5
"""It is tried again after this many times as long as the failed load took, if that is longer."""

_arrivals = count()


LONGEST_REASON = 500
"""Characters of a reason that are kept."""


class Offer(Struct, frozen=True, kw_only=True, eq=False):
    """A version of a model that a worker can load.

    `takes` are the members of its input, none for the bytes of one image. `make` returns a new runner for `load_model`;
    it may take long, to fetch files, and `make_anew` does the same from files that it fetches again, where there is
    another place than this machine. `size` is the bytes of its files; `memory_bytes` what it is said to take of the
    device, 0 where that is measured. A `warm` version is loaded at once and not evicted.
    """

    id: str
    digest: str
    make: Callable[[], Awaitable[Runner]]
    make_anew: Callable[[], Awaitable[Runner]] | None = None
    takes: Mapping[str, Member] = {}
    size: int = 0
    memory_bytes: int = 0
    keep_alive_s: float = 300.0
    warm: bool = False


class Waiter(Struct, frozen=True, eq=False):
    """A task that waits until a model is loaded. `rank` is that of its priority; `log` gets what the load says."""

    rank: int
    arrival: int
    log: TaskLog
    granted: "asyncio.Future[Use]"


class Resident(Struct, eq=False):
    """A model of a worker, loaded or not.

    A `fixed` one was loaded at the start and stays. One that `is_wanted` is loaded though no task waits for it, and one
    that `is_expected`, as long as so many tasks are `expecting` it, only where there is room; `is_loading` while the
    device loads it. One that `is_closed` takes no more uses, and is unloaded when the last one has ended: one that
    `is_leaving` in any case, another where the room is still needed. `gone` says why it cannot be loaded any more,
    `log` is what its last load has said.

    Moments are seconds of `time.monotonic`, but for `since`, which is in ms since 1970.
    """

    offer: Offer
    runner: Runner | None = None
    fixed: bool = False
    is_wanted: bool = False
    is_expected: bool = False
    is_closed: bool = False
    is_leaving: bool = False
    gone: str = ""
    is_loading: bool = False
    making: asyncio.Task[Runner] | None = None
    expecting: int = 0
    uses: int = 0
    waiters: list[Waiter] = field(default_factory=list)
    state: ResidenceState = "cold"
    reason: str = ""
    since: int = field(default_factory=lambda: now_ms())
    log: TaskLog = field(default_factory=TaskLog)
    bytes: int = 0
    load_s: float = 0.0
    ready_at: float = 0.0
    used_at: float = 0.0
    try_at: float = -math.inf

    @property
    def id(self) -> str:
        """Its name in queues and records."""
        return self.offer.id

    @property
    def is_usable(self) -> bool:
        """Whether a task may use it at once."""
        return self.runner is not None and not self.is_closed

    @property
    def is_idle(self) -> bool:
        """Whether it is loaded and no task uses it."""
        return self.runner is not None and not self.uses

    @property
    def may_be_evicted(self) -> bool:
        """Whether it may make room for others, now or when it is idle."""
        return self.runner is not None and not self.fixed and not self.offer.warm

    @property
    def waiting(self) -> list[Waiter]:
        """The tasks that still wait for it."""
        return [waiter for waiter in self.waiters if not waiter.granted.done()]

    @property
    def cannot_be_made(self) -> bool:
        """Whether making its runner has failed."""
        return self.making is not None and self.making.done() and self.making.exception() is not None

    @property
    def is_asked_for(self) -> bool:
        """Whether it is not loaded and somebody wants it."""
        return self.runner is None and (self.is_wanted or bool(self.waiting))

    @property
    def turn(self) -> tuple[int, int]:
        """The model with the lower turn is loaded first: that with the highest priority that waits for it,
        then that for which a task has waited longest."""
        return min(((one.rank, one.arrival) for one in self.waiting), default=(len(PRIORITIES), 0))

    def is_refused(self, now: float) -> bool:
        """Whether it has failed, and is not tried again yet."""
        return self.state == "failed" and now < self.try_at

    def become(self, state: ResidenceState, reason: str = "") -> None:
        """Note where it is from now on. The reason is kept as one line that need not name the model."""
        self.state, self.reason, self.since = state, _line(reason.removeprefix(f"{self.id}: ")), now_ms()

    def wait(self, priority: Priority, log: TaskLog) -> Waiter:
        """Let a task wait for it."""
        granted = asyncio.get_running_loop().create_future()
        waiter = Waiter(PRIORITIES.index(priority), next(_arrivals), log, granted)
        self.waiters = [*self.waiting, waiter]
        return waiter

    def use(self) -> "Use":
        """Count one more use."""
        self.uses += 1
        return Use(self)

    def serve(self) -> None:
        """Let all tasks that wait use it."""
        waiters, self.waiters = self.waiting, []
        for waiter in waiters:
            waiter.log.adopt(self.log)
            waiter.granted.set_result(self.use())

    def refuse(self, error: ModelUnavailable | DeviceBroken) -> None:
        """End the wait of all tasks with this error."""
        waiters, self.waiters = self.waiting, []
        for waiter in waiters:
            waiter.log.adopt(self.log)
            waiter.granted.set_exception(error)

    def fail(self, reason: str, now: float) -> None:
        """Note that it cannot be loaded, and end the wait of all tasks."""
        self.become("failed", reason)
        self.is_wanted = self.is_expected = self.is_leaving = False
        self.try_at = now + max(FAILED_FOR_S, FAILED_LOADS * self.load_s)
        self.refuse(ModelUnavailable(f"{self.id}: {self.reason}"))

    def forget_making(self) -> None:
        """Make its runner no longer, and forget one that was made and not loaded."""
        if self.making is not None:
            self.making.cancel()
            self.making.add_done_callback(_heard)
            self.making = None

    def residence(self) -> Residence:
        """What the worker says of it."""
        held = self.bytes if self.runner is not None else 0
        return Residence(
            state=self.state,
            since=self.since,
            digest=self.offer.digest,
            memory_bytes=held,
            reason=self.gone or self.reason,
        )


def _line(reason: str) -> str:
    # It stands in the list of workers and in answers, and may quote names of a graph, which may be of any length.
    start = " ".join(reason[: 2 * LONGEST_REASON].split())
    return start if len(start) <= LONGEST_REASON else f"{start[:LONGEST_REASON]}…"


class Use(Struct, frozen=True, eq=False):
    """The right of one task to run a model, which is not unloaded before it was given back."""

    resident: Resident

    @property
    def digest(self) -> str:
        """The digest of what is loaded."""
        return self.resident.offer.digest

    @property
    def runner(self) -> Runner:
        """The loaded model."""
        assert self.resident.runner is not None  # noqa: S101  nothing with uses is unloaded
        return self.resident.runner


def _heard(made: asyncio.Task[Runner]) -> None:
    if not made.cancelled():
        made.exception()


def now_ms() -> int:
    """This moment, in ms since 1970."""
    return int(time.time() * 1000)
