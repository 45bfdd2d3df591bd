"""The supervisor: starts child processes, restarts those that die or hang, and stops them in order.

It imports neither a model runtime nor the API. So it stays small, and survives what its children do to themselves.
"""

import asyncio
import ctypes
import json
import os
import random
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import IO

from loguru import logger
from msgspec import Struct

from penstock.lazy_import import lazy_import

metrics = lazy_import("penstock.telemetry.metrics")

EXIT_CONFIGURATION = 78
"""The exit status for wrong settings (EX_CONFIG of sysexits.h): a restart would end the same way."""

STEADY_S = 2.0
"""A child that was ready for this long is restarted at once. After an earlier death the wait grows each time, since
whatever killed the child would kill it again."""

MAX_EARLY_DEATHS = 5
"""The parent gives up when a child that was never ready has died this often."""

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


class Supervisor:
    """Keeps children running until it is stopped. `exit_status` is that of the whole command."""

    def __init__(self, *, log: IO[bytes] | None = None) -> None:
        self._log = log
        self._children: dict[str, Child] = {}
        self._processes: dict[str, asyncio.subprocess.Process] = {}
        self._keepers: dict[str, asyncio.Task[None]] = {}
        self._metrics: dict[str, str] = {}
        self._stopping: set[str] = set()
        self._stop = asyncio.Event()
        self.exit_status = 0

    def add(self, child: Child) -> None:
        """Start a child, and restart it whenever it dies or hangs."""
        self._children[child.name] = child
        # `increase()` of Prometheus misses the first restart of a series that begins at 1.
        metrics.report("process.restarts", 0, child=child.name)
        if child.reports:
            metrics.report("workers.hung", 0, child=child.name)
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

    def request_stop(self, exit_status: int = 0) -> None:
        """Let `until_stopped` return. The first exit status that is not 0 is kept."""
        self.exit_status = self.exit_status or exit_status
        self._stop.set()

    async def close(self) -> None:
        """Stop all children, highest rank first. A child that does not stop within its grace is killed."""
        for rank in sorted({child.rank for child in self._children.values()}, reverse=True):
            same = [child for child in self._children.values() if child.rank == rank]
            await asyncio.gather(*(self._end(child) for child in same))

    def _signaled(self) -> None:
        if self._stop.is_set():
            for process in self._processes.values():
                _send(process, signal.SIGTERM)
        self._stop.set()

    async def _keep(self, child: Child) -> None:
        early_deaths, was_ready = 0, False
        while child.name not in self._stopping:
            launch = child.launch()
            started = time.monotonic()
            process, report = await self._spawn(child, launch)
            watch = asyncio.create_task(self._watch(child, process, report)) if report is not None else None
            status = await process.wait()
            ready = await watch if watch else None
            if child.name in self._stopping:
                return
            was_ready, steady_s = was_ready or ready is not None, time.monotonic() - (ready or started)
            logger.bind(child=child.name, status=status, steady_s=round(steady_s, 1)).error("process died")
            await _after_death(child, launch.identity)
            early_deaths = 0 if steady_s > STEADY_S else early_deaths + 1
            if status == EXIT_CONFIGURATION or (not was_ready and early_deaths >= MAX_EARLY_DEATHS):
                self.request_stop(status if status > 0 else 1)
                return
            await asyncio.sleep(_backoff_s(early_deaths))
            metrics.report("process.restarts", child=child.name)

    async def _watch(self, child: Child, process: asyncio.subprocess.Process, report: int) -> float | None:
        """Read the reports of a child until it ends, and kill it when it hangs. Returns when it became ready, if it
        did."""
        assert child.reports is not None  # noqa: S101  only such a child has a pipe
        left_s, ready = child.reports.start_s, None
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
                if message := json.loads(line):
                    ready = time.monotonic()
                    self._metrics[child.name] = message["metrics_url"]
            else:
                logger.bind(child=child.name, pid=process.pid).critical("process hangs, killed")
                metrics.report("workers.hung", child=child.name)
                _send(process, signal.SIGKILL)
        self._metrics.pop(child.name, None)
        return ready

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


async def _after_death(child: Child, identity: str) -> None:
    if child.after_death:
        try:
            await child.after_death(identity)
        except Exception:  # noqa: BLE001  otherwise the keeper would end here, and the child would never be restarted
            logger.bind(child=child.name).exception("the clean-up after a death failed")


def _send(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    if process.returncode is None:
        process.send_signal(number)


def _backoff_s(early_deaths: int) -> float:
    """The seconds before a restart: 0 for the first death after a steady run, then doubling up to 30 s, with jitter."""
    return random.uniform(0.5, 1.0) * min(30.0, 0.2 * 2**early_deaths) if early_deaths else 0.0  # noqa: S311  jitter


def die_with_parent(number: signal.Signals = signal.SIGTERM) -> None:
    """Runs in the child before exec: on Linux it then gets this signal when its parent dies, in whatever way, once for
    each thread of the parent."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, number)  # PR_SET_PDEATHSIG
