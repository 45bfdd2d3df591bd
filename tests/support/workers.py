"""A worker inside the process of the test: a real pipeline on a CPU, and the host around it."""

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from inspect import isawaitable
from typing import Any

from msgspec.structs import replace

from penstock.core.device import Device
from penstock.core.lease import RetryPolicy
from penstock.core.request import Source
from penstock.core.task import Stage, Task
from penstock.errors import StoreUnavailable
from penstock.models.base import BaseModelRunner, registry
from penstock.models.description import descriptions
from penstock.settings import LimitSettings
from penstock.storage import Storage
from penstock.store import Shards, Store, WorkerMemory
from penstock.upkeep.sweep import sweep
from penstock.worker.batcher.scheduler import DeviceScheduler
from penstock.worker.codecs import CodecThreads
from penstock.worker.decoders.pool import DecoderPool
from penstock.worker.devices import cpu
from penstock.worker.fetch import Fetcher
from penstock.worker.host import Host
from penstock.worker.inputs import Inputs
from penstock.worker.memory import MemoryBudget
from penstock.worker.pipeline import Pipeline
from penstock.worker.residency.freed import memory_of
from penstock.worker.residency.loads import ModelLoads
from penstock.worker.residency.repository import RepositoryWatch
from penstock.worker.residency.residents import Residents
from penstock.worker.spool import Spool
from penstock.worker.threads import Threads
from tests.support.drive import image
from tests.support.stores import submission, worker_info

RETRY = RetryPolicy(base_s=0.01, cap_s=0.01)


@asynccontextmanager
async def pipeline(
    storage: Storage,
    *models: str,
    spool: Spool | None = None,
    memory_bytes: int = 10**9,
    limits: LimitSettings | None = None,
    model_bytes: int = 10**9,
    load_limit_s: float = 60.0,
    decoders: DecoderPool | None = None,
    device: Device | None = None,
    own: Sequence[type[BaseModelRunner[Any]]] = (),
) -> AsyncIterator[Pipeline]:
    """Opens a pipeline with these models, already loaded, and with classes of the test's `own`, and loads others on
    demand within `model_bytes`."""
    device, limits = device or cpu(1), limits or LimitSettings()
    async with AsyncExitStack() as stack:
        codecs = CodecThreads(device, decoders)
        stack.enter_context(codecs.urgent), stack.enter_context(codecs.usual)
        tiles = stack.enter_context(Threads(2, "tiles"))
        runners = [cls(limits) for cls in (*(registry()[name] for name in models), *own)]
        scheduler = DeviceScheduler(device, tiles)
        await scheduler.start(runners)
        residents = Residents()
        residents.hold(runners, descriptions(models))
        stack.push_async_callback(scheduler.close)
        loads = ModelLoads(residents, scheduler, memory_of(device), budget_bytes=model_bytes, limit_s=load_limit_s)
        stack.callback(asyncio.create_task(loads.serve()).cancel)
        yield Pipeline(
            residents,
            scheduler,
            inputs=Inputs(await stack.enter_async_context(Fetcher(limits)), storage, codecs, limits),
            storage=storage,
            spool=spool or Spool(storage, directory="", max_bytes=0),
            codecs=codecs,
            memory=MemoryBudget(memory_bytes),
            limits=limits,
        )


async def sweeping(store: Store) -> None:
    """Runs the parts of upkeep that need no storage, whenever Redis answers."""
    while True:
        with suppress(StoreUnavailable):
            await sweep(store)
        await asyncio.sleep(0.2)


@asynccontextmanager
async def host(
    store: Store | Shards,
    storage: Storage,
    *models: str,
    worker_id: str = "w1",
    spool_bytes: int = 0,
    slots: int = 4,
    lease_s: float = 6.0,
    drain_s: int = 1,
    watching: Callable[[Residents], RepositoryWatch] | None = None,
    **options: Any,
) -> AsyncIterator[Host]:
    """Runs a worker until the end of the block; it then releases its tasks. `watching` makes its watch of a repository
    of models; further options are those of `pipeline`."""
    shards = store if isinstance(store, Shards) else Shards([store])
    spool = Spool(storage, directory="", max_bytes=spool_bytes)
    async with pipeline(storage, *models, spool=spool, **options) as running:
        watch = watching(running.models) if watching else None
        loops = {"repository": watch.run, "publisher": watch.publisher.run} if watch else {}
        worker = Host(
            info=worker_info(worker_id, models),
            models=running.models,
            beside={f"upkeep {one.shard}": partial(sweeping, one) for one in shards} | loops,
            look_for_models=watch.look if watch else lambda: None,
            memory=lambda: WorkerMemory(process=0, tasks=0, tasks_limit=0, device_limit=0),
            shards=shards,
            pipeline=running,
            spool=spool,
            retry=RETRY,
            slots=slots,
            reserved_slots=0,
            lease_s=lease_s,
            drain_s=drain_s,
        )
        serving = asyncio.create_task(worker.serve())
        await asyncio.sleep(0)
        try:
            yield worker
        finally:
            worker.handle_sig(signal.SIGTERM)
            await serving
            await spool.aclose()


async def submit_image(
    store: Store, model: str, params: dict[str, Any] | None = None, *, max_retries: int = 3, **members: Any
) -> str:
    """Queues a task whose small image is part of its record, and returns the id."""
    asked = submission(model=model, max_retries=max_retries)
    usual = {"inputs": {"image": Source(data=image())}, "params": params or {}}
    request = replace(asked.request, **usual | members)
    return (await store.tasks.submit(replace(asked, request=request), rate_limit=0)).id


async def ended(store: Store, task_id: str, within_s: float = 60) -> Task:
    """Waits for the final state of the task and returns it."""
    async with asyncio.timeout(within_s):
        while not (task := await store.tasks.get(task_id, "default")).state.is_final:
            await asyncio.sleep(0.01)
    return task


async def until(is_so: Callable[[], bool | Awaitable[bool]], within_s: float = 60) -> None:
    """Returns when the condition holds."""
    async with asyncio.timeout(within_s):
        while not (found := is_so()) or (isawaitable(found) and not await found):
            await asyncio.sleep(0.01)


async def reached(store: Store, task_id: str, stage: Stage, epoch: int = 1) -> None:
    """Returns when this attempt is in this stage."""
    async with asyncio.timeout(60):
        while ((task := await store.tasks.get(task_id, "default")).epoch, task.stage) != (epoch, stage):
            await asyncio.sleep(0.01)
