"""The supervisor: starts child processes, restarts those that die or hang, and stops them in order.

It imports neither a model runtime nor the API. So it stays small, and survives what its children do to themselves.
"""

import asyncio
import signal
from typing import IO

from loguru import logger

from penstock.errors import ConfigurationError
from penstock.lazy_import import lazy_import
from penstock.local.children import Child, ChildProcess
from penstock.local.deaths import EXIT_CONFIGURATION, Deaths, Life
from penstock.local.down_devices import DownDevices, attempted

metrics = lazy_import("penstock.telemetry.metrics")


class Supervisor:
    """Keeps children running until it is stopped. `exit_status` is that of the whole command; `failure` says why it is
    not 0 where the log of a child would not be enough.

    A worker whose device is lost or unusable is marked down and tried again later; the others go on. The supervisor
    stops when none of them is left, unless it was told to `outlive_workers`.
    """

    def __init__(self, *, log: IO[bytes] | None = None) -> None:
        self._log = log
        self._children: dict[str, Child] = {}
        self._processes: dict[str, ChildProcess] = {}
        self._keepers: dict[str, asyncio.Task[None]] = {}
        self._retired: dict[asyncio.Task[None], ChildProcess] = {}
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
        self._keepers[child.name] = asyncio.create_task(self._keep(child), name=child.name)

    async def replace_workers(self) -> str:
        """Start each worker anew, one after the other. A worker takes tasks until the new one is ready; what it runs
        then, it finishes. Returns why a new one cannot run: the old one goes on, and those after it. Else returns an
        empty text."""
        for child in [child for child in self._children.values() if child.on_device]:
            try:
                new = await ChildProcess.start(child, self._log)
            except ConfigurationError as error:
                return str(error)
            try:
                if reason := await self._until_ready(new):
                    return reason
                if old := self._adopt(child, new):
                    await self._clean_up_after(child, old)
            finally:
                if self._processes.get(child.name) is not new:
                    await asyncio.shield(new.end())
        return ""

    def metrics(self, group: str = "") -> dict[str, str]:
        """The metrics URLs of the children of this group, or of none, that have one now, by name."""
        of_group = [name for name, child in list(self._children.items()) if child.group == group]
        processes = {name: self._processes[name] for name in of_group if name in self._processes}
        return {name: process.metrics_url for name, process in processes.items() if process.metrics_url}

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
            retired = self._retired if any(child.on_device for child in same) else ()
            await asyncio.gather(*(self._end(child) for child in same), *retired)

    def _signaled(self) -> None:
        if self._stop.is_set():
            for process in (*self._processes.values(), *self._retired.values()):
                process.send(signal.SIGTERM)
        self._stop.set()

    async def _keep(self, child: Child, running: ChildProcess | None = None) -> None:
        deaths = Deaths()
        while child.name not in self._stopping:
            life = await self._live(child, running)
            running = None
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

    async def _live(self, child: Child, running: ChildProcess | None) -> Life:
        """Start a process unless one runs already, wait for its death, and clean up after it."""
        try:
            process = self._processes[child.name] = running or await ChildProcess.start(child, self._log)
        except ConfigurationError as error:
            return Life(status=EXIT_CONFIGURATION, was_ready=False, steady_s=0.0, reason=str(error))
        back = asyncio.create_task(self._tell_when_ready(child, process))
        try:
            life = await process.lived()
            await back
        finally:
            back.cancel()
        if child.name not in self._stopping:
            await self._clean_up(child, process, life)
        return life

    async def _tell_when_ready(self, child: Child, process: ChildProcess) -> None:
        await process.until_ready()
        if process.is_ready:
            await self._down.unmark(child.name)

    async def _clean_up(self, child: Child, process: ChildProcess, life: Life) -> None:
        # The reason of a wrong setting is told once, by whoever gives the child up.
        level = "DEBUG" if life.status == EXIT_CONFIGURATION and life.reason else "ERROR"
        why = {"reason": life.killed_because} if life.killed_because else {}
        died = logger.bind(child=child.name, status=life.status, steady_s=round(life.steady_s, 1), **why)
        died.log(level, "process died")
        if child.after_death:
            await attempted(child.name, child.after_death(process.identity, life.killed_because))

    def _give_up(self, child: Child, life: Life) -> None:
        """Mark the device of a worker down; stop where the child has none, or it was the last."""
        workers = {other.name for other in self._children.values() if other.on_device}
        if child.on_device and (self._outlives_workers or workers - self._down.names() - {child.name}):
            self._down.mark(child.name, child.on_device, life)
            return
        cannot = "no worker can run" if child.on_device else f"{child.name} cannot run"
        self.failure = life.reason and f"{cannot}: {life.reason}"
        self.request_stop(life.status if life.status > 0 else 1)

    async def _until_ready(self, process: ChildProcess) -> str:
        """Why a process has ended before it was ready; an empty text when it is ready."""
        ended = asyncio.create_task(process.lived())
        await process.until_ready()
        if process.is_ready:
            ended.cancel()
            return ""
        life = await ended
        return life.reason or f"its worker ended with status {life.status}; the log says why"

    def _adopt(self, child: Child, new: ChildProcess) -> ChildProcess | None:
        """Keep this process of a child from now on, and let the one before, which is returned, finish what it runs."""
        old = self._processes.get(child.name)
        self._keepers[child.name].cancel()
        self._processes[child.name] = new
        self._keepers[child.name] = asyncio.create_task(self._keep(child, new), name=child.name)
        if old is not None:
            ending = asyncio.create_task(self._retire(child, old))
            self._retired[ending] = old
            ending.add_done_callback(self._retired.pop)
        return old

    async def _retire(self, child: Child, old: ChildProcess) -> None:
        await old.end()
        await self._clean_up_after(child, old)  # again: while it drained it has published what it serves
        life = await old.lived()
        if child.after_death and life.status:  # with 0 it has handed back or finished all that it ran
            await attempted(child.name, child.after_death(old.identity, life.killed_because))

    async def _clean_up_after(self, child: Child, old: ChildProcess) -> None:
        if child.after_replacement:
            await attempted(child.name, child.after_replacement(old.identity))

    async def _end(self, child: Child) -> None:
        self._stopping.add(child.name)
        process = self._processes.get(child.name)
        if process is not None:
            await process.end()
        self._keepers[child.name].cancel()
        await asyncio.gather(self._keepers[child.name], return_exceptions=True)
