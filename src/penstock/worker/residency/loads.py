"""ModelLoads: the loop of a worker that loads and unloads its models, one at a time.

A task that waits for a model holds none, and one that holds a model needs no other: so there always is a next load.
"""

import asyncio
import math
import time
from collections.abc import Callable
from contextlib import suppress

from loguru import logger

from penstock.core.device import Device
from penstock.errors import ConfigurationError, DeviceOutOfMemory, ModelUnavailable, PenstockError
from penstock.models.base import DeviceBroken
from penstock.models.declared.files import DamagedFile
from penstock.models.onnxruntime import faults
from penstock.models.onnxruntime.cuda import cuda_runtime
from penstock.models.onnxruntime.cuda_device import arena_limit
from penstock.settings import WorkerSettings
from penstock.telemetry import metrics
from penstock.worker.batcher.device_work import Runner
from penstock.worker.batcher.scheduler import DeviceScheduler
from penstock.worker.residency.freed import MemoryInUse
from penstock.worker.residency.resident import Resident
from penstock.worker.residency.residents import Residents
from penstock.worker.residency.room import has_expired, next_moment, to_close, to_evict
from penstock.worker.starvation import StarvationGuard
from penstock.worker.task_log import TaskLog

MOST_TIMES_FILES, MOST_BEYOND_BYTES = 4, 64 * 1024**2
"""What a load takes is measured while other tasks run. It counts as no less than the files of the model, and as no more
than this many times as much and this on top."""

CPU_SHARE = 1 / 3
"""Memory for models on a CPU, as a part of that for tasks: a fifth of the memory of the machine."""

CARD_SHARE = 1 / 2
"""Memory for the weights of models on a card, as a part of what their runs may take of it."""

NOT_NOW = (PenstockError, ConfigurationError)
"""The errors of a load whose text is one line for the operator."""


class ModelLoads:
    """Loads what tasks wait for within `budget_bytes`, which fixed models do not count against; a model that needs more
    than that is loaded when no other can go. On a CPU of several streams a model takes its files `copies` times.

    `lost` is called when the device was lost at a load.
    """

    def __init__(
        self,
        residents: Residents,
        device: DeviceScheduler,
        memory: MemoryInUse,
        *,
        budget_bytes: int,
        limit_s: float,
        guard: int = 0,
        lost: Callable[[], None] = lambda: None,
    ) -> None:
        self._residents = residents
        self._device = device
        self._memory = memory
        self._budget = budget_bytes
        self._limit_s = limit_s
        self._copies = 2 if device.device.streams > 1 else 1
        self._guard: StarvationGuard[int] = StarvationGuard(guard)
        self.lost = lost
        self._hung_bytes = 0

    async def serve(self) -> None:
        """Load and unload until canceled."""
        stirred = self._residents.stirred
        while True:
            stirred.clear()
            pause_s = await self._act()
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await stirred.wait()

    async def _act(self) -> float | None:
        """Do what is next; returns the seconds until there may be more to do, None when only a change brings that."""
        self._residents.look_at_clock()
        await self._unload_what_leaves()
        self._make_runners()
        self._forget_unwanted()
        head = self._next()
        if head is None:
            self._reopen()
            return self._pause_s(is_full=False)
        if self._fits(head) or not any(one.may_be_evicted for one in self._residents):
            self._reopen()
            await self._load(head)
            return 0.0
        if (victim := to_evict(self._residents)) is not None:
            await self._unload(victim, "room")
            return 0.0
        if (in_use := to_close(tuple(self._residents), time.monotonic())) is not None:
            in_use.is_closed = True
        return self._pause_s(is_full=True)

    def _pause_s(self, *, is_full: bool) -> float | None:
        now = time.monotonic()
        moment = next_moment(tuple(self._residents), now, is_full=is_full)
        return None if moment is None or moment == math.inf else moment - now

    # --- what is next -----------------------------------------------------------------------------------------

    def _make_runners(self) -> None:
        """Begin to make the runners of models that are asked for: several may be fetched at a time."""
        for resident in self._residents:
            wanted = resident.is_asked_for or (resident.is_expected and resident.runner is None)
            if wanted and resident.making is None and not resident.gone:
                resident.become("loading")
                resident.making = asyncio.ensure_future(self._made(resident))
                self._residents.on_change()

    def _forget_unwanted(self) -> None:
        """Let runners go that were made, or are being made, for tasks that want them no more."""
        for resident in self._residents:
            if resident.making is None or resident.is_loading or resident.is_asked_for or resident.is_expected:
                continue
            resident.forget_making()
            if resident.state == "loading":
                resident.become("cold")
                self._residents.on_change()

    async def _made(self, resident: Resident) -> Runner:
        try:
            return await resident.offer.make()
        finally:
            self._residents.stirred.set()

    def _next(self) -> Resident | None:
        """The model to load next, of those that are asked for and whose runner is made."""
        made = [one for one in self._residents if one.making is not None and one.making.done()]
        asked = [one for one in made if one.is_asked_for]
        if not asked:
            return next((one for one in made if one.is_expected and self._fits(one)), None)
        rank = self._guard.next(sorted({one.turn[0] for one in asked}))
        return min((one for one in asked if one.turn[0] == rank), key=lambda one: one.turn)

    def _fits(self, resident: Resident) -> bool:
        taken = sum(one.bytes for one in self._residents if one.runner is not None and not one.fixed)
        free = self._budget - self._hung_bytes - taken
        return self._needs(resident) <= free or resident.cannot_be_made  # which fails at once

    def _needs(self, resident: Resident) -> int:
        return resident.bytes or resident.offer.memory_bytes or self._copies * resident.offer.size

    def _reopen(self) -> None:
        """Let a model that was to make room go on, since none is needed any more."""
        for resident in self._residents:
            if resident.is_closed and not resident.is_leaving:
                resident.is_closed = False
                resident.serve()

    # --- load -------------------------------------------------------------------------------------------------

    async def _load(self, resident: Resident) -> None:
        waiting = {one.turn[0] for one in self._residents if one.is_asked_for}
        self._guard.served(resident.turn[0], waiting - {resident.turn[0]})
        resident.is_loading, resident.log = True, TaskLog()
        before, started = self._memory.used(), time.monotonic()
        try:
            resident.runner = await self._loaded(resident)
        except DeviceBroken as error:
            self._lose(resident, error)
        except Exception as error:  # noqa: BLE001  a model's own code: it fails, the worker goes on
            self._fail(resident, error, time.monotonic() - started)
        else:
            resident.load_s = time.monotonic() - started
            self._ready(resident)
            resident.bytes = self._taken(resident, await asyncio.to_thread(self._memory.measured) - before)
        resident.is_loading, resident.making = False, None
        self._residents.changed()
        self._report()

    async def _loaded(self, resident: Resident) -> Runner:
        """The runner, loaded. When a file of it is damaged that can be fetched again, it is, once."""
        assert resident.making is not None  # noqa: S101  `_next` has chosen it
        try:
            return await self._loaded_here(resident, await resident.making)
        except DamagedFile as error:
            if resident.offer.make_anew is None:
                raise
            logger.bind(model=resident.id, reason=str(error)).warning("a damaged model is fetched again")
        return await self._loaded_here(resident, await resident.offer.make_anew())

    async def _loaded_here(self, resident: Resident, runner: Runner) -> Runner:
        """The runner, loaded. When the device has no memory for it, another model goes, and it is loaded once more."""
        try:
            await self._load_on_device(resident, runner)
        except Exception as error:
            victim = to_evict(self._residents) if _is_out_of_memory(error) else None
            if victim is None:
                raise
        else:
            return runner
        logger.bind(model=resident.id, evicted=victim.id).warning("no memory for a model, another one is evicted")
        await self._unload(victim, "room")
        runner = await resident.offer.make()
        await self._load_on_device(resident, runner)
        return runner

    async def _load_on_device(self, resident: Resident, runner: Runner) -> None:
        size = self._needs(resident)

        def give_back() -> None:
            self._hung_bytes -= size
            self._residents.stirred.set()

        try:
            await self._device.loader.load(runner, resident.log, limit_s=self._limit_s, on_dropped=give_back)
        except ModelUnavailable:
            self._hung_bytes += size  # the load goes on: it takes what it takes, until it was dropped
            raise

    def _ready(self, resident: Resident) -> None:
        resident.ready_at = resident.used_at = time.monotonic()
        resident.is_wanted = resident.is_expected = False
        resident.become("ready")
        resident.serve()
        resident.is_closed = resident.is_leaving
        metrics.report("model.loads", model=resident.id, device=self._device.device.name, outcome="ready")

    def _taken(self, resident: Resident, measured: int) -> int:
        least = self._copies * resident.offer.size
        most = MOST_TIMES_FILES * least + MOST_BEYOND_BYTES
        return resident.offer.memory_bytes or min(max(measured, least), most)

    def _fail(self, resident: Resident, error: Exception, took_s: float) -> None:
        resident.load_s = took_s
        reason = str(error) if isinstance(error, NOT_NOW) else f"{type(error).__name__} was raised when it was loaded"
        resident.fail(reason, time.monotonic())
        if not isinstance(error, NOT_NOW):
            logger.bind(model=resident.id).opt(exception=error).error("a model could not be loaded")
        else:
            logger.bind(model=resident.id, reason=resident.reason).error("a model could not be loaded")
        metrics.report("model.loads", model=resident.id, device=self._device.device.name, outcome="failed")

    def _lose(self, resident: Resident, error: DeviceBroken) -> None:
        # The tasks that wanted it count a crash: if every worker that loads it loses its device, they end.
        resident.become("failed", str(error))
        resident.refuse(DeviceBroken(str(error)))
        self._device.lose(error)
        self.lost()

    # --- unload -----------------------------------------------------------------------------------------------

    async def _unload_what_leaves(self) -> None:
        for resident in tuple(self._residents):
            if resident.is_idle and resident.is_leaving:
                await self._unload(resident, "asked")
            elif has_expired(resident, time.monotonic()):
                await self._unload(resident, "idle")
        self._residents.retired[:] = [one for one in self._residents.retired if one.runner or one.is_loading]

    async def _unload(self, resident: Resident, why: str) -> None:
        runner, resident.runner = resident.runner, None
        assert runner is not None  # noqa: S101  only what is loaded is unloaded
        resident.is_closed = resident.is_leaving = False
        resident.become("evicted")
        before = self._memory.used()
        await self._device.loader.unload(runner)
        del runner
        size = min(resident.bytes, self._copies * resident.offer.size)
        await self._memory.until_freed(resident.id, before=before, size=size)
        logger.bind(model=resident.id, why=why).info("model unloaded")
        metrics.report("model.evictions", model=resident.id, device=self._device.device.name, why=why)
        self._residents.changed()
        self._report()

    def _report(self) -> None:
        held = sum(one.bytes for one in self._residents if one.runner is not None)
        metrics.report("models.resident", held, device=self._device.device.name)


def budget_bytes(settings: WorkerSettings, device: Device) -> int:
    """The memory for models that are loaded on demand. Call it when the runtime has loaded: on a card, it asks that."""
    if settings.model_memory_bytes:
        return settings.model_memory_bytes
    if device.kind == "cpu":
        return int(device.ram_bytes * CPU_SHARE)
    cuda = cuda_runtime()
    limit = device.memory_limit_bytes if cuda is None else arena_limit(cuda.memory().total, device)
    return int(limit * CARD_SHARE)


def _is_out_of_memory(error: Exception) -> bool:
    cause = error.__cause__
    met = isinstance(error, DeviceOutOfMemory | MemoryError)
    return met or (isinstance(cause, Exception) and isinstance(faults.of_run(cause), DeviceOutOfMemory))
