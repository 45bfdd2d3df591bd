"""The supervisor: starts child processes, restarts those that die or hang, and stops them in order.

It imports neither a model runtime nor the API. So it stays small, and survives what its children do to themselves.
"""

import asyncio
import ctypes
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import IO, TypeVar

from loguru import logger
from msgspec import Struct

from penstock.errors import ConfigurationError
from penstock.lazy_import import lazy_import
from penstock.local.deaths import EXIT_CONFIGURATION, Deaths, Life
from penstock.local.down_devices import DownDevices, OnDevice, attempted
from penstock.worker.threads import Threads

metrics = lazy_import("penstock.telemetry.metrics")

T = TypeVar("T")

CHECK_S = 0.25
"""How often the parent checks the silence of a child. Silence is counted in checks and not by the clock: a parent that
was suspended together with its machine, or stopped, must not take a child for hung."""


class StoppedEarly(Exception):
    """A signal asked the processes to stop before they were ready."""


FEW_ARENAS = {"MALLOC_ARENA_MAX": "2"}
"""The setting of glibc for children, unless the environment has another: with an arena for each thread, images that
come and go in many threads leave holes in all arenas. After 4,000 mixed tasks the API kept 117 MB instead of 167, the
worker 210 instead of 296 (`python -m tools.soak --tasks 4000`); throughput is the same."""


class Launch(Struct, frozen=True, kw_only=True, eq=False):
    """How to start one process. It is made anew for each start.

    `identity` is what `Child.after_death` is called with: the id of a worker, whose tasks are then taken back.
    """

    argv: list[str]
    environment: dict[str, str]
    identity: str = ""
    pass_fds: tuple[int, ...] = ()


class Patience(Struct, frozen=True, kw_only=True):
    """How many seconds a child may be silent before it counts as hung: `start_s` at first, `silence_s` after each
    line."""

    start_s: float
    silence_s: float


class Child(Struct, frozen=True, kw_only=True, eq=False):
    """A process to keep running. Children of a higher `rank` are stopped first, each within `grace_s`.

    A child with `reports` writes JSON lines to the file descriptor of its option `--report-fd`; see
    `penstock.worker.heartbeat`. `after_death` is awaited with the identity of the launch before the child is restarted.
    """

    name: str
    rank: int
    launch: Callable[[], Launch]
    grace_s: float
    reports: Patience | None = None
    parent_died: signal.Signals = signal.SIGTERM
    """What the kernel sends it when this process dies (Linux)."""
    metrics_url: str = ""
    after_death: Callable[[str], Awaitable[None]] | None = None
    on_device: OnDevice | None = None
    """None: when the child cannot run, the parent ends."""


class Supervisor:
    """Keeps children running until it is stopped. `exit_status` is that of the whole command; `failure` says why it is
    not 0 where the log of a child would not be enough.

    A worker whose device is lost or unusable is marked down and tried again later; the others go on. The supervisor
    stops when none of them is left, unless it was told to `outlive_workers`.
    """

    def __init__(self, *, log: IO[bytes] | None = None) -> None:
        self._log = log
        self._children: dict[str, Child] = {}
        self._processes: dict[str, asyncio.subprocess.Process] = {}
        self._keepers: dict[str, asyncio.Task[None]] = {}
        self._metrics: dict[str, str] = {}
        self._stopping: set[str] = set()
        self._down = DownDevices()
        self._outlives_workers = False
        self._stop = asyncio.Event()
        self.exit_status = 0
        self.failure = ""

    def add(self, child: Child) -> None:
        """Start a child, and restart it whenever it dies or hangs."""
        self._children[child.name] = child
        # `increase()` of Prometheus misses the first restart of a series that begins at 1.
        metrics.report("process.restarts", 0, child=child.name)
        if child.reports:
            metrics.report("workers.hung", 0, child=child.name)
        if child.on_device:
            self._down.show(child.on_device)
        if child.metrics_url:
            self._metrics[child.name] = child.metrics_url
        self._keepers[child.name] = asyncio.create_task(self._keep(child), name=child.name)

    def metrics(self) -> dict[str, str]:
        """The metrics URLs of the children that have one now, by name."""
        return dict(self._metrics)

    def stop_on_signals(self) -> None:
        """Let SIGINT and SIGTERM end `until_stopped`. A second signal sends SIGTERM to all children at once."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._signaled)

    async def until_stopped(self) -> None:
        """Return after a signal, after `request_stop`, or when a child cannot run."""
        await self._stop.wait()

    def outlive_workers(self) -> None:
        """Go on from now on when no worker can run, since other children are of use without one."""
        self._outlives_workers = True

    def request_stop(self, exit_status: int = 0) -> None:
        """Let `until_stopped` return. The first exit status that is not 0 is kept."""
        self.exit_status = self.exit_status or exit_status
        self._stop.set()

    async def close(self) -> None:
        """Stop all children, highest rank first. A child that does not stop within its grace is killed."""
        await self._down.close()
        for rank in sorted({child.rank for child in self._children.values()}, reverse=True):
            same = [child for child in self._children.values() if child.rank == rank]
            await asyncio.gather(*(self._end(child) for child in same))

    def _signaled(self) -> None:
        if self._stop.is_set():
            for process in self._processes.values():
                _send(process, signal.SIGTERM)
        self._stop.set()

    async def _keep(self, child: Child) -> None:
        deaths = Deaths()
        while child.name not in self._stopping:
            life = await self._live(child)
            if child.name in self._stopping:
                return
            deaths.count(life)
            if child.name not in self._down.names() and not deaths.hopeless(life):
                await asyncio.sleep(deaths.backoff_s())
                metrics.report("process.restarts", child=child.name)
                continue
            self._give_up(child, life)
            if child.on_device is None:
                return
            await asyncio.sleep(child.on_device.retry_s)

    async def _live(self, child: Child) -> Life:
        """Start a process, wait for its death, and clean up after it."""
        try:
            launch = await called_aside(child.launch)  # it may ask the driver, which takes its time
        except ConfigurationError as error:
            return Life(status=EXIT_CONFIGURATION, was_ready=False, steady_s=0.0, reason=str(error))
        started = time.monotonic()
        process, report = await self._spawn(child, launch)
        watch = asyncio.create_task(self._watch(child, process, report)) if report is not None else None
        status = await process.wait()
        ready, reason = await watch if watch else (started, "")
        life = Life(
            status=status,
            was_ready=watch is not None and ready is not None,
            steady_s=time.monotonic() - ready if ready is not None else 0.0,
            reason=reason,
        )
        if child.name not in self._stopping:
            # The reason of a wrong setting is told once, by whoever gives the child up.
            level = "DEBUG" if status == EXIT_CONFIGURATION and reason else "ERROR"
            logger.bind(child=child.name, status=status, steady_s=round(life.steady_s, 1)).log(level, "process died")
            if child.after_death:
                await attempted(child.name, child.after_death(launch.identity))
        return life

    def _give_up(self, child: Child, life: Life) -> None:
        """Mark the device of a worker down; stop where the child has none, or it was the last."""
        workers = {other.name for other in self._children.values() if other.on_device}
        if child.on_device and (self._outlives_workers or workers - self._down.names() - {child.name}):
            self._down.mark(child.name, child.on_device, life)
            return
        self.failure = life.reason and f"no worker can run: {life.reason}"
        self.request_stop(life.status if life.status > 0 else 1)

    async def _watch(self, child: Child, process: asyncio.subprocess.Process, report: int) -> tuple[float | None, str]:
        """Read the reports of a child until it ends, and kill it when it hangs. Returns when it became ready, if it
        did, and why it ended, if it said so."""
        assert child.reports is not None  # noqa: S101  only such a child has a pipe
        left_s, ready, reason = child.reports.start_s, None, ""
        async with _lines_of(report) as lines:
            while left_s > 0 or child.name in self._stopping:  # a child that is being stopped has its grace
                try:
                    async with asyncio.timeout(CHECK_S):
                        line = await lines.readline()
                except TimeoutError:
                    left_s -= CHECK_S
                    continue
                if not line:
                    break
                left_s = child.reports.silence_s
                message = json.loads(line)
                reason = message.get("reason", reason)
                if "metrics_url" in message:
                    ready = time.monotonic()
                    self._metrics[child.name] = message["metrics_url"]
                    await self._down.unmark(child.name)
            else:
                reason = "it gave no sign of life and was killed"
                logger.bind(child=child.name, pid=process.pid).critical("process hangs, killed")
                metrics.report("workers.hung", child=child.name)
                _send(process, signal.SIGKILL)
        self._metrics.pop(child.name, None)
        return ready, reason

    async def _spawn(self, child: Child, launch: Launch) -> tuple[asyncio.subprocess.Process, int | None]:
        report, writing = os.pipe() if child.reports else (None, None)
        argv = launch.argv + (["--report-fd", str(writing)] if writing is not None else [])
        try:
            process = await asyncio.create_subprocess_exec(
                *argv,
                env=FEW_ARENAS | launch.environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=self._log or sys.stderr,
                stderr=self._log or sys.stderr,
                pass_fds=(*launch.pass_fds, *((writing,) if writing is not None else ())),
                start_new_session=True,  # Ctrl-C then reaches the parent alone, which stops its children in order
                preexec_fn=partial(die_with_parent, child.parent_died),
            )
        finally:
            if writing is not None:
                os.close(writing)
        self._processes[child.name] = process
        return process, report

    async def _end(self, child: Child) -> None:
        self._stopping.add(child.name)
        process = self._processes.get(child.name)
        if process is not None:
            _send(process, signal.SIGTERM)
            try:
                async with asyncio.timeout(child.grace_s):
                    await process.wait()
            except TimeoutError:
                logger.bind(child=child.name).warning("did not stop in time, killed")
                _send(process, signal.SIGKILL)
                await process.wait()
        self._keepers[child.name].cancel()
        await asyncio.gather(self._keepers[child.name], return_exceptions=True)


async def called_aside(call: Callable[[], T]) -> T:
    """Call on a thread of its own, which nobody waits for any more when this is canceled: the driver may hang."""
    threads = Threads(1, "aside")
    try:
        return await threads.run(call)
    finally:
        threads.close(wait=False)


def python(*arguments: str) -> list[str]:
    """The command line of another Penstock process with the interpreter of this one."""
    return [sys.executable, "-m", "penstock", *arguments]


@asynccontextmanager
async def _lines_of(fd: int) -> AsyncIterator[asyncio.StreamReader]:
    """A reader of a pipe."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(fd, "rb"))
    try:
        yield reader
    finally:
        transport.close()


def _send(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    if process.returncode is None:
        process.send_signal(number)


def die_with_parent(number: signal.Signals = signal.SIGTERM) -> None:
    """Runs in the child before exec: on Linux it then gets this signal when its parent dies, in whatever way, once for
    each thread of the parent."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, number)  # PR_SET_PDEATHSIG
