"""The attempts that run in a worker: how they start, the slots that they hold, how they are stopped, and what is
forgotten when they end."""

import asyncio
import inspect
import time
from collections.abc import Callable
from typing import Any

from loguru import logger

from penstock.core.device import Device
from penstock.core.lease import Lease, is_suspect
from penstock.core.task import Progress, Stage
from penstock.telemetry import metrics
from penstock.worker.attempt import Attempts
from penstock.worker.batcher.scheduler import CHOSEN
from penstock.worker.claims import Slots
from penstock.worker.leases import Leases
from penstock.worker.prefetch import Prefetch
from penstock.worker.progress import ProgressWriter
from penstock.worker.spool import Spool
from penstock.worker.threads import codec_threads

CPU_SLOTS = 8
"""Tasks in flight that keep the cores of a host busy: some compute while others are fetched and encoded."""

SLOT_BYTES = 128 * 1024**2
"""Memory of a task in flight: a photo of one megapixel with its result of 16 takes 104 MB."""


def slots_for(device: Device) -> int:
    """How many tasks a worker of this device should have in flight at most.

    For a GPU one for each tile of the two batches that are chosen and of the one after these, and one for each thread
    that encodes: a photo holds its slot for the 20 ms of an H100 and then for a second of PNG. More would only take
    tasks away from workers that could begin with them.
    """
    if device.kind == "cpu":
        return CPU_SLOTS
    wanted = (CHOSEN + 1) * device.batches[-1] + codec_threads(device)
    return max(CPU_SLOTS, min(wanted, device.ram_bytes // SLOT_BYTES))


class RunningAttempts:
    """Starts and stops attempts. Each is known by the key of its lease.

    `tasks` is the dict in which arq expects the asyncio task of each. `on_end` is called when an attempt has ended.
    """

    def __init__(
        self,
        tasks: dict[str, asyncio.Task[Any]],
        attempts: Attempts,
        *,
        device: str,
        leases: Leases,
        prefetch: Prefetch,
        progress: ProgressWriter,
        spool: Spool,
        slots: int,
        reserved_slots: int,
        on_end: Callable[[], None],
    ) -> None:
        self._tasks = tasks
        self._attempts = attempts
        self._leases = leases
        self._prefetch = prefetch
        self._progress = progress
        self._spool = spool
        self._slots = slots
        self._reserved_slots = reserved_slots
        self.on_free: Callable[[], None] = lambda: None
        """Called when a slot may have become free or the device has got on."""
        self._on_end = on_end
        self._loading: set[str] = set()
        self._uploading: set[str] = set()
        self._suspects: list[str] = []
        self._freed = asyncio.Event()
        self.stopped: set[str] = set()
        """The attempts that were stopped and still run: nothing may be written for them."""
        attempts.on_settling = self._settling
        metrics.meters().observe("tasks.in_flight", lambda: [(len(tasks), {"device": device})])

    # --- slots ------------------------------------------------------------------------------------------------

    def free_slots(self) -> Slots:
        """How many tasks may be claimed. A suspect runs alone, so that there is no slot beside one; and there is none
        while the spool is full: the storage is away then, and what would be made could not be stored either."""
        if self._suspects or self._spool.is_full:
            return Slots(0, 0)
        # The reserved slots come after the others, so that only what is taken beyond `slots` takes one of them. While
        # tasks of high priority do, the first number is negative, and nothing of a lower priority is claimed until as
        # many tasks have ended.
        taken = self._slots_taken
        return Slots(self._slots - taken, self._slots + self._reserved_slots - max(taken, self._slots))

    @property
    def _slots_taken(self) -> int:
        # A slot is held from the claim until the device and the codecs are done with the task. An attempt that is being
        # settled only waits for Redis, and one that is being uploaded for the storage: neither holds one, so that the
        # device goes on. But a result that waits for the storage in the memory of this process does, since nothing else
        # bounds these: of the uploading attempts only as many hold none as the spool has on its disk or is sending.
        settling = self._attempts.settling
        uploading = min(len(self._uploading - settling), self._spool.on_disk + self._spool.uploads)
        return len(self._tasks) - len(settling) - uploading - self._without_model

    @property
    def _without_model(self) -> int:
        # While the model of a task is loaded, others go on with those that are: it holds no slot. But there are no more
        # such tasks than slots, since each has its input in memory.
        return min(len(self._loading - self._attempts.settling), self._slots)

    def _slot_is_free(self) -> None:
        if self._suspects:
            self._freed.set()
        self.on_free()

    # --- start ------------------------------------------------------------------------------------------------

    def start(self, lease: Lease) -> None:
        """Run an attempt under this lease. An older attempt at the same task is stopped, and this one begins when that
        has left the device."""
        key, earlier = lease.key, self._stop_earlier(lease)

        def watch(stage: Stage, progress: Progress | None) -> None:
            self._progress.note(key, stage, progress)
            self._prefetch.note(key, stage, progress, time.monotonic())
            if stage == "upload":
                self._uploading.add(key)
                self._freed.set()
            if stage == "load":
                self._loading.add(key)
            else:
                self._loading.discard(key)
            self.on_free()

        async def until_free() -> None:
            if earlier:
                await asyncio.wait(earlier)
            while is_suspect(lease) and not self._may_run_alone(key):
                self._freed.clear()
                await self._freed.wait()

        attempt = self._attempts.run(lease, watch, until_free=until_free, is_stopped=lambda: key in self.stopped)
        if is_suspect(lease):
            self._suspects.append(key)
        self._leases.hold(lease)
        self._prefetch.add(lease, time.monotonic())
        self._tasks[key] = task = asyncio.create_task(attempt, name=key)
        task.add_done_callback(lambda _: self._ended(key))

    def _stop_earlier(self, lease: Lease) -> list[asyncio.Task[Any]]:
        # The lease of an older attempt is lost, or this one would not have been given: it need not go on until a
        # renewal says so.
        earlier = self._leases.of_task(lease.id)
        for other in earlier:
            if other.epoch < lease.epoch:
                self.stop(other.key, "claimed again")
        return [self._tasks[other.key] for other in earlier]

    def _may_run_alone(self, suspect: str) -> bool:
        """Suspects run one after the other, and only when nothing else does."""
        held = self._slots_taken + self._without_model
        return self._suspects[:1] == [suspect] and held <= len(self._suspects)

    # --- stop -------------------------------------------------------------------------------------------------

    def stop(self, key: str, why: str) -> None:
        """Stop the attempt under this lease, and write nothing for it any more. Nothing happens if it does not run
        here, or if its end is decided."""
        if self.may_stop(key):
            lease = self._leases[key]
            logger.bind(task_id=lease.id, attempt=lease.epoch, why=why).warning("attempt is stopped")
            self.stopped.add(key)
            self._cancel(key)

    def give_back(self, key: str, to: str) -> None:
        """Release the task of this attempt, so that another worker can claim it."""
        lease = self._leases[key]
        logger.bind(task_id=lease.id, attempt=lease.epoch, to=to).info("task is given back")
        self._prefetch.give_back(key, time.monotonic())
        self._cancel(key)

    def give_back_late(self) -> None:
        """Release what this worker, which is to stop, would begin too late: its time to stop is for what has begun."""
        for key in self._prefetch.late(time.monotonic()):
            if self.may_stop(key):
                self.give_back(key, "whoever is free")

    def may_stop(self, key: str) -> bool:
        """Whether an attempt runs under this lease, was not stopped, and its end is not decided."""
        task = self._tasks.get(key)  # an attempt that is over stands here until the loop calls `_ended`
        return task is not None and not task.done() and key not in self.stopped | self._attempts.settling

    def _cancel(self, key: str) -> None:
        # A coroutine that is cancelled before its first step never runs, so that it would release nothing: the task
        # would wait for the end of a lease that nobody renews, and be charged a crash. The first step is due before
        # what is called soon.
        task = self._tasks[key]
        if inspect.getcoroutinestate(task.get_coro()) == inspect.CORO_CREATED:  # type: ignore[arg-type]
            asyncio.get_running_loop().call_soon(task.cancel)
        else:
            task.cancel()

    # --- end --------------------------------------------------------------------------------------------------

    def _settling(self, key: str) -> None:
        self._prefetch.drop(key)
        self._slot_is_free()

    def _ended(self, key: str) -> None:
        self._tasks.pop(key, None)
        self._leases.let_go(key)
        self._progress.forget(key)
        self._prefetch.drop(key)
        self.stopped.discard(key)
        self._loading.discard(key)
        self._uploading.discard(key)
        self._on_end()
        if key in self._suspects:
            self._suspects.remove(key)
        self._slot_is_free()
