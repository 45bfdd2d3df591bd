"""The child processes: how each is started, how its parent hears from it, and how it is ended."""

import asyncio
import ctypes
import json
import os
import signal
import sys
import time
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import IO, Self, TypeVar

from loguru import logger
from msgspec import Struct
from msgspec.structs import replace

from penstock.lazy_import import lazy_import
from penstock.local.deaths import Life
from penstock.local.down_devices import OnDevice
from penstock.local.spares import Role, SpareProcess
from penstock.worker.devices import cgroup
from penstock.worker.threads import Threads

metrics = lazy_import("penstock.telemetry.metrics")

T = TypeVar("T")

CHECK_S = 0.25
"""How often the parent checks the silence of a child. Silence is counted in checks and not by the clock: a parent that
was suspended together with its machine, or stopped, must not take a child for hung."""

FEW_ARENAS = {"MALLOC_ARENA_MAX": "2"}
"""The setting of glibc for children, unless the environment has another: with an arena for each thread, images that
come and go in many threads leave holes in all arenas. After 4,000 mixed tasks the API kept 117 MB instead of 167, the
worker 210 instead of 296 (`python -m tools.soak --tasks 4000`); throughput is the same."""


class Launch(Struct, frozen=True, kw_only=True, eq=False):
    """How to start one process. It is made anew for each start.

    `identity` is what `Child.after_death` is called with: the id of a worker, whose tasks are then taken back. `umask`
    takes bits from the modes of the files that it makes; -1 leaves those of this process.
    """

    argv: list[str]
    environment: dict[str, str]
    identity: str = ""
    pass_fds: tuple[int, ...] = ()
    umask: int = -1


class Patience(Struct, frozen=True, kw_only=True):
    """How many seconds a child may be silent before it counts as hung: `start_s` at first, `silence_s` after each
    line."""

    start_s: float
    silence_s: float


class Child(Struct, frozen=True, kw_only=True, eq=False):
    """A process to keep running. Children of a higher `rank` are stopped first, each within `grace_s`.

    A child with `reports` writes JSON lines to the file descriptor of its option `--report-fd`; see
    `penstock.worker.heartbeat`. `after_death` is awaited with the identity of the launch and why the process was
    killed, empty if nobody knows, before the child is restarted; `after_replacement` with the identity of a process for
    which another runs now.
    """

    name: str
    rank: int
    launch: Callable[[], Launch]
    grace_s: float
    reports: Patience | None = None
    group: str = ""
    """Children of one group do the same work: their metrics are shown as those of one process."""
    parent_died: signal.Signals = signal.SIGTERM
    """What the kernel sends it when this process dies (Linux)."""
    after_death: Callable[[str, str], Awaitable[None]] | None = None
    after_replacement: Callable[[str], Awaitable[None]] | None = None
    on_device: OnDevice | None = None
    """None: when the child cannot run, the parent ends."""
    spare: SpareProcess | None = None
    """What its first process is made of, if there is one."""
    last_words: Callable[[], str] = str
    """Why it has ended, from a log of its own; empty where that does not say."""


class ChildProcess:
    """One process of a child, from its start to its death. `until_ready` returns when it has reported that it is ready,
    or has ended."""

    def __init__(
        self, child: Child, identity: str, process: asyncio.subprocess.Process | SpareProcess, report: int | None
    ) -> None:
        self.identity = identity
        self.metrics_url = ""
        self.is_stopping = False
        self._child = child
        self._process = process
        self._started = time.monotonic()
        self._ready_at: float | None = None
        self._reason = ""
        self._oom_kills = cgroup.oom_kills()
        self._ready = asyncio.Event()
        self._watch = asyncio.create_task(self._listen(report)) if report is not None else None

    @classmethod
    async def start(cls, child: Child, log: IO[bytes] | None) -> Self:
        """Start a process. Raises ConfigurationError when there is nothing to start, such as no device."""
        launch = await called_aside(child.launch)  # it may ask the driver, which takes its time
        report, writing = os.pipe() if child.reports else (None, None)
        argv = launch.argv + (["--report-fd", str(writing)] if writing is not None else [])
        try:
            fds = (*launch.pass_fds, *((writing,) if writing is not None else ()))
            told = replace(launch, argv=argv, environment=FEW_ARENAS | launch.environment, pass_fds=fds)
            process = _of_spare(child, told, log) or await _executed(child, told, log)
        finally:
            if writing is not None:
                os.close(writing)
        return cls(child, launch.identity, process, report)

    @property
    def is_ready(self) -> bool:
        """Whether it has reported that it is ready; a child that reports nothing never does."""
        return self._ready_at is not None

    async def until_ready(self) -> None:
        """Return when it is ready or has ended."""
        await self._ready.wait()

    async def lived(self) -> Life:
        """Wait for its death, and return what it was."""
        status = await self._process.wait()
        if self._watch:
            await asyncio.shield(self._watch)
        self._ready.set()
        steady_since = self._ready_at if self._watch else self._started
        return Life(
            status=status,
            was_ready=self.is_ready,
            steady_s=time.monotonic() - steady_since if steady_since is not None else 0.0,
            reason=self._reason or (self._memory_ran_out() if status == -signal.SIGKILL else self._child.last_words()),
        )

    def send(self, number: signal.Signals) -> None:
        """Send a signal, unless it has ended."""
        if self._process.returncode is None:
            self._process.send_signal(number)

    async def end(self) -> None:
        """Let it stop within the grace of the child, then kill it."""
        self.is_stopping = True
        self.send(signal.SIGTERM)
        try:
            async with asyncio.timeout(self._child.grace_s):
                await self._process.wait()
        except TimeoutError:
            logger.bind(child=self._child.name).warning("did not stop in time, killed")
            self.send(signal.SIGKILL)
            await self._process.wait()

    def _memory_ran_out(self) -> str:
        """That the kernel has killed a process of this group since the last sign of life of this one, which was killed;
        empty if it has not."""
        if cgroup.oom_kills() <= self._oom_kills:
            return ""
        limit = cgroup.memory_limit()
        return f"memory ran out and the kernel killed it ({f'limit {limit / 1e6:.0f} MB' if limit else 'no limit'})"

    async def _listen(self, report: int) -> None:
        """Read its reports until it ends, and kill it when it hangs."""
        patience = self._child.reports
        assert patience is not None  # noqa: S101  only such a child has a pipe
        left_s = patience.start_s
        async with _lines_of(report) as lines:
            while left_s > 0 or self.is_stopping:  # a child that is being stopped has its grace
                try:
                    async with asyncio.timeout(CHECK_S):
                        line = await lines.readline()
                except TimeoutError:
                    left_s -= CHECK_S
                    continue
                if not line:
                    break
                left_s = patience.silence_s
                self._hear(json.loads(line))
            else:
                self._reason = "it gave no sign of life and was killed"
                logger.bind(child=self._child.name, pid=self._process.pid).critical("process hangs, killed")
                metrics.report("workers.hung", child=self._child.name)
                self.send(signal.SIGKILL)
        self.metrics_url = ""

    def _hear(self, message: dict[str, str]) -> None:
        self._oom_kills = cgroup.oom_kills()  # of decoders, too, which their worker survives
        self._reason = message.get("reason", self._reason)
        if "metrics_url" in message:
            self._ready_at = time.monotonic()
            self.metrics_url = message["metrics_url"]
            self._ready.set()


async def _executed(child: Child, launch: Launch, log: IO[bytes] | None) -> Process:
    return await asyncio.create_subprocess_exec(
        *launch.argv,
        env=launch.environment,
        stdin=DEVNULL,
        stdout=log or sys.stderr,
        stderr=log or sys.stderr,
        pass_fds=launch.pass_fds,
        umask=launch.umask,
        start_new_session=True,  # Ctrl-C then reaches the parent alone, which stops its children in order
        preexec_fn=partial(die_with_parent, child.parent_died),
    )


def _of_spare(child: Child, launch: Launch, log: IO[bytes] | None) -> SpareProcess | None:
    """The spare process of a child as its first; None where it has none, or no more."""
    if child.spare is None or not child.spare.is_unused:
        return None
    out = (log or sys.stderr).fileno()
    role = Role(
        argv=launch.argv,
        environment=launch.environment,
        umask=launch.umask,
        fds=[0, 1, 2, *launch.pass_fds],
        parent_died=child.parent_died,
    )
    with suppress(OSError), open(os.devnull, "rb") as nothing:  # noqa: PTH123  where it has ended, another is executed
        child.spare.become(role, [nothing.fileno(), out, out, *launch.pass_fds])
        return child.spare
    return None


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


def die_with_parent(number: signal.Signals = signal.SIGTERM) -> None:
    """Runs in the child before exec: on Linux it then gets this signal when its parent dies, in whatever way, once for
    each thread of the parent."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, number)  # PR_SET_PDEATHSIG
