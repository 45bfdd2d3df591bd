"""An event loop without a machine: it has a clock of its own, and processes that it runs turn by turn, as a seed says.

Inside of a process callbacks run in the order in which they came, which asyncio promises. Between processes nothing is
promised, so that the seed decides who has the next turn. When nobody has anything to do, the clock goes on at once to
the next timer: an hour of waiting costs nothing.
"""

import asyncio
import heapq
import itertools
import signal
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from random import Random
from typing import Any, TypeVar

T = TypeVar("T")


class SimulatedProcess:
    """What would be a process of a real installation: its callbacks, which can be frozen, and dropped."""

    def __init__(self, loop: "SimulatedLoop", name: str, *, skew_s: float = 0.0) -> None:
        """`skew_s` is by how much its time of day is wrong."""
        self.name = name
        self.skew_s = skew_s
        self.is_frozen = self.is_dead = False
        self.ready: deque[asyncio.Handle] = deque()
        self.handlers: dict[int, tuple[Callable[..., object], tuple[Any, ...]]] = {}
        self.on_death: list[Callable[[], None]] = []
        """Called once when it ends: its connections are the system's, which closes them."""
        self.context = copy_context()
        self.context.run(CURRENT.set, self)
        self._loop = loop

    def start(self, work: Coroutine[Any, Any, T], name: str) -> "asyncio.Task[T]":
        """Run this in the process."""
        return self.context.copy().run(lambda: NumberedTask(work, loop=self._loop, name=f"{self.name} {name}"))

    def freeze(self) -> None:
        """Let it have no turn until `thaw`, as SIGSTOP does; what comes for it waits."""
        self.is_frozen = True
        self._loop.is_idle(self)

    def thaw(self) -> None:
        """Let it go on."""
        self.is_frozen = False
        if self.ready:
            self._loop.has_work(self)

    def kill(self) -> None:
        """Let it never have a turn again: no `finally` runs, as after SIGKILL."""
        if not self.is_dead:
            self.is_dead = True
            self.ready.clear()
            self._loop.bury(self)
            for tell in self.on_death:
                tell()

    def signal(self, number: signal.Signals) -> None:
        """Call the handler that it has for a signal, in its next turn."""
        if number in self.handlers and not self.is_dead:
            handler, args = self.handlers[number]
            self._loop.call_soon(handler, *args, context=self.context.copy())


CURRENT: ContextVar[SimulatedProcess] = ContextVar("simulated process")


class NumberedTask(asyncio.Task[Any]):
    """A task whose place in a set does not come from its address."""

    def __hash__(self) -> int:
        return number_of(self)


class NumberedFuture(asyncio.Future[Any]):
    """A future whose place in a set does not come from its address."""

    def __hash__(self) -> int:
        return number_of(self)


def number_of(one: Any) -> int:
    """The number of an object among those that were asked for one: the order of a set of such objects is decided."""
    try:
        number: int = one._seeds_number
    except AttributeError:
        number = one._seeds_number = next(SimulatedLoop.numbers)
    return number


class SimulatedLoop(asyncio.BaseEventLoop):
    """The loop of all processes. `chance` makes every choice of a run."""

    numbers = itertools.count(1)
    """Those of the present run; there is one at a time."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.chance = Random(seed)
        SimulatedLoop.numbers = itertools.count(1)
        self._is_over = False
        self.faults: list[BaseException] = []
        """What callbacks have raised: asyncio would only log it."""
        self.connect: Callable[[Callable[[], Any]], Coroutine[Any, Any, tuple[Any, Any]]]
        """Opens a connection; the network sets it."""
        self._now = 0.0
        self._with_work: list[SimulatedProcess] = []
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._timer_count = 0
        self._graves: list[object] = []
        self.world = SimulatedProcess(self, "world")
        """Whatever is no process of ours: the network, Redis, the clients, and who does harm."""
        self.set_exception_handler(self._note_fault)
        self.set_task_factory(lambda loop, work, **options: NumberedTask(work, loop=loop, **options))

    def time(self) -> float:
        """The seconds since the start of the run."""
        return self._now

    def has_work(self, process: SimulatedProcess) -> None:
        """Let a process have turns."""
        if process not in self._with_work:
            self._with_work.append(process)

    def is_idle(self, process: SimulatedProcess) -> None:
        """Let a process have none."""
        if process in self._with_work:
            self._with_work.remove(process)

    def bury(self, process: SimulatedProcess) -> None:
        """Keep what a dead process was about to do until the run is over: its end would run its `finally` blocks."""
        self.is_idle(process)
        self._graves.extend(asyncio.all_tasks(self))

    def create_future(self) -> "asyncio.Future[Any]":
        """See asyncio."""
        return NumberedFuture(loop=self)

    async def create_connection(  # type: ignore[override]
        self, protocol_factory: Callable[[], Any], *_: object, **__: object
    ) -> tuple[Any, Any]:
        """Open a connection to the one server that there is."""
        return await self.connect(protocol_factory)

    def end(self) -> None:
        """Run nothing any more: what the objects of a run still call at their ends is dropped."""
        self._is_over = True
        self.close()
        for task in asyncio.all_tasks(self):
            task._log_destroy_pending = False  # type: ignore[attr-defined]

    def add_signal_handler(self, sig: int, callback: Callable[..., object], *args: Any) -> None:  # type: ignore[override]
        """Keep the handler for the process that asks."""
        CURRENT.get().handlers[sig] = (callback, args)

    def remove_signal_handler(self, sig: int) -> bool:
        """Forget the handler of the process that asks."""
        return CURRENT.get().handlers.pop(sig, None) is not None

    def call_at(
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """See asyncio. Timers of the same moment fire in the order in which they were set."""
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        timer._scheduled = True
        self._timer_count += 1
        heapq.heappush(self._timers, (when, self._timer_count, timer))
        return timer

    # --- seams of BaseEventLoop ---------------------------------------------------------------------------------

    def _call_soon(
        self, callback: Callable[..., object], args: tuple[Any, ...], context: Context | None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._put(handle)
        return handle

    def _put(self, handle: asyncio.Handle) -> None:
        process = handle._context.get(CURRENT, self.world)
        if process.is_dead or self._is_over:
            return
        if not process.ready and not process.is_frozen:
            self._with_work.append(process)
        process.ready.append(handle)

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        pass

    def _check_closed(self) -> None:
        pass

    def _write_to_self(self) -> None:
        pass

    def _process_events(self, event_list: object) -> None:
        pass

    def _run_once(self) -> None:
        if not self._with_work:
            self._go_on_to_next_timer()
            return
        some = self._with_work
        at = self.chance.randrange(len(some)) if len(some) > 1 else 0
        process = some.pop(at)
        for _ in range(len(process.ready)):
            handle = process.ready.popleft()
            if not handle._cancelled:
                handle._run()
            if not process.ready:  # it has died
                break
        if process.ready and not process.is_frozen:
            self.has_work(process)

    def _go_on_to_next_timer(self) -> None:
        timers = self._timers
        while timers and timers[0][2]._cancelled:
            heapq.heappop(timers)
        if not timers:
            raise RuntimeError("nothing will ever happen")
        self._now = max(self._now, timers[0][0])
        while timers and timers[0][0] <= self._now:
            timer = heapq.heappop(timers)[2]
            if not timer._cancelled:
                timer._scheduled = False
                self._put(timer)

    def _note_fault(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if (fault := context.get("exception")) is not None:
            self.faults.append(fault)
