"""One worker process from start to exit: what it opens, in which order, and what its exit status says."""

import asyncio
import os
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import uvloop
from loguru import logger

from penstock import collector
from penstock.core.device import Device
from penstock.core.lease import RetryPolicy
from penstock.core.model import Model
from penstock.errors import ConfigurationError
from penstock.models import load_runners
from penstock.models.base import DeviceBroken, registry
from penstock.models.description import descriptions
from penstock.models.onnxruntime.memory import host_blocks
from penstock.models.repository.cache import ModelCache
from penstock.models.repository.remote import RemoteTree
from penstock.settings import Settings
from penstock.storage import S3Inputs, Storage, open_storage
from penstock.store import Opening, Shards, WorkerInfo, WorkerMemory, connect_each
from penstock.store.engine import PATIENCE_S
from penstock.telemetry import exposition
from penstock.upkeep.machine import disks_of, watch_disks, watch_loop
from penstock.upkeep.rounds import run_upkeep
from penstock.upkeep.watches import StorageWatch, watch_store
from penstock.worker.batcher.device_work import Runner
from penstock.worker.batcher.scheduler import DeviceScheduler
from penstock.worker.codecs import CodecThreads
from penstock.worker.decoders.pool import open_pool
from penstock.worker.devices.machine import cache_directory
from penstock.worker.fetch import Fetcher
from penstock.worker.heartbeat import EXIT_DEVICE_LOST, Heartbeat, longest_silence_s
from penstock.worker.host import Host
from penstock.worker.inputs import Inputs
from penstock.worker.log_capture import capturing
from penstock.worker.memory import MemoryBudget, budget_of, resident
from penstock.worker.pipeline import Pipeline
from penstock.worker.publisher import Publisher
from penstock.worker.residency.freed import memory_of
from penstock.worker.residency.loads import ModelLoads, budget_bytes
from penstock.worker.residency.repository import RepositoryWatch
from penstock.worker.residency.residents import Residents
from penstock.worker.residency.versions import LocalVersions
from penstock.worker.running import slots_for
from penstock.worker.spool import Spool, made
from penstock.worker.threads import Threads, tile_threads

Loop = Callable[[], Coroutine[Any, Any, None]]

SWITCH_S = 0.0005
"""How long a thread may keep the interpreter from others beside a GPU, which waits for the one that gives it the next
batch. With Python's 5 ms that takes a millisecond and more, while a batch of an H100 takes 40."""

KEPT_BYTES = 1024**3
"""Memory of results that a worker with a GPU keeps for the next ones, at most: they come so fast that new pages alone
would keep several cores busy."""


def run(settings: Settings, device: Device, *, worker_id: str, report_fd: int | None) -> int:
    """Serve one device until SIGTERM, and return the exit status.

    `report_fd` is the pipe through which the parent is told that this process lives and when it is ready: see
    `heartbeat`.
    """
    heartbeat = Heartbeat(report_fd, silence_s=longest_silence_s(settings))
    try:
        names = load_runners(settings.models, in_storage=not settings.storage.local)
        collector.end_start()
        uvloop.run(_serve(settings, device, names, worker_id, heartbeat))
    except ConfigurationError as error:
        heartbeat.ends(str(error))
        raise
    except DeviceBroken as error:
        heartbeat.ends(str(error))
        # The runtime's threads may hang on a lost device: leave without them.
        os._exit(EXIT_DEVICE_LOST)
    return 0


class _Opened(NamedTuple):
    """What a worker process holds open until it ends."""

    opening: Opening
    shards: Shards
    storage: Storage
    runners: Sequence[Runner]
    scheduler: DeviceScheduler
    spool: Spool
    memory: MemoryBudget
    pipeline: Pipeline
    residents: Residents


async def _serve(settings: Settings, device: Device, names: list[str], worker_id: str, heartbeat: Heartbeat) -> None:
    async with AsyncExitStack() as stack:
        opened = await _open(settings, device, names, heartbeat, stack)
        models = descriptions(names)
        opened.residents.hold(opened.runners, models)
        info = _info(settings, device, models, worker_id)
        publisher = Publisher(opened.shards.home.models, opened.shards.home.workers, worker_id, device.name)
        await publisher.publish(models)
        await publisher.retract_former()
        watch = _watch(settings, opened, publisher, info)
        await watch.look_once()
        loads = _loads(settings, opened.residents, opened.scheduler)
        beside: dict[str, Loop] = {
            "opening": partial(_open_late, opened.opening),
            "publisher": publisher.run,
            "repository": watch.run,
            "model loads": loads.serve,
        }
        host = _host(settings, opened, info, beside, watch.look)
        loads.lost = host.check_device
        metrics_url = f"http://127.0.0.1:{exposition.serve_metrics('127.0.0.1', 0)}/metrics"
        heartbeat.ready(metrics_url, drain=host.drain, drain_s=settings.worker.drain_s)
        logger.bind(device=device.name, models=names).info("worker ready")
        await host.serve()
        logger.info("worker stopped")


async def _open(
    settings: Settings, device: Device, names: list[str], heartbeat: Heartbeat, stack: AsyncExitStack
) -> _Opened:
    """Load the models that stay, then wait for Redis. All of it is closed with the stack."""
    clients = await stack.enter_async_context(connect_each(settings.redis))
    storage = await stack.enter_async_context(open_storage(settings.storage, settings.redis.namespace))
    runners = [registry()[name](settings.limits) for name in names]
    scheduler = await _scheduler(settings, device, runners, stack)
    stack.callback(asyncio.create_task(heartbeat.beat(), name="heartbeat").cancel)
    stack.enter_context(capturing(settings.telemetry.log_level))
    opening = await stack.enter_async_context(aclosing(Opening(clients)))
    await opening.some(PATIENCE_S)
    spool = Spool(storage, directory=made(settings.worker.spool_directory), max_bytes=settings.worker.spool_max_bytes)
    stack.push_async_callback(spool.aclose)
    memory, residents = _memory_of_tasks(settings, device), Residents()
    for warning in too_small(settings, memory, spool):
        logger.warning(warning)
    pipeline = await _pipeline(settings, residents, scheduler, storage, spool, memory, stack)
    shards = Shards.over(clients, settings.queue)
    return _Opened(opening, shards, storage, runners, scheduler, spool, memory, pipeline, residents)


def _memory_of_tasks(settings: Settings, device: Device) -> MemoryBudget:
    if device.kind == "cuda":
        sys.setswitchinterval(SWITCH_S)
        from penstock.pixels.pillow import keep_memory  # Pillow, which not every worker needs

        keep_memory(min(KEPT_BYTES, device.ram_bytes // 8))
    return budget_of(device, settings.worker, guard=settings.queue.starvation_guard)


def too_small(settings: Settings, memory: MemoryBudget, spool: Spool) -> Iterator[str]:
    """Yield what this machine or container is too small for, though the settings allow it."""
    if memory.largest_mp < settings.limits.max_image_megapixels:
        most = f"images of more than about {memory.largest_mp:.0f} MP"
        yield f"{memory.most / 1e6:.0f} MB of memory are left for tasks: {most} are refused"
    if spool.disk_bytes < settings.worker.spool_max_bytes:
        yield f"{spool.disk_bytes / 1e6:.0f} MB are free where the spool is: further results will wait in memory"


async def _pipeline(
    settings: Settings,
    residents: Residents,
    scheduler: DeviceScheduler,
    storage: Storage,
    spool: Spool,
    memory: MemoryBudget,
    stack: AsyncExitStack,
) -> Pipeline:
    codecs = CodecThreads(scheduler.device, stack.enter_context(open_pool(settings.limits)))
    stack.enter_context(codecs.urgent), stack.enter_context(codecs.usual)
    objects = await _buckets(settings, stack)
    fetcher = await stack.enter_async_context(
        Fetcher(settings.limits, public_url=settings.api.public_url, objects=objects)
    )
    return Pipeline(
        residents,
        scheduler,
        inputs=Inputs(fetcher, storage, codecs, settings.limits),
        storage=storage,
        spool=spool,
        codecs=codecs,
        memory=memory,
        limits=settings.limits,
    )


def _host(
    settings: Settings,
    opened: _Opened,
    info: WorkerInfo,
    beside: Mapping[str, Loop],
    look_for_models: Callable[[], None],
) -> Host:
    return Host(
        info=info,
        models=opened.residents,
        beside={"upkeep": partial(_keep_up, settings, opened.shards, opened.storage), **beside},
        look_for_models=look_for_models,
        memory=partial(_memory, opened.memory, opened.scheduler.device),
        shards=opened.shards,
        pipeline=opened.pipeline,
        spool=opened.spool,
        retry=RetryPolicy(base_s=settings.queue.retry_base_s, cap_s=settings.queue.retry_cap_s),
        slots=info.slots,
        reserved_slots=settings.worker.reserved_slots,
        lease_s=settings.queue.lease_s,
        drain_s=settings.worker.drain_s,
    )


def _loads(settings: Settings, residents: Residents, scheduler: DeviceScheduler) -> ModelLoads:
    device = scheduler.device
    return ModelLoads(
        residents,
        scheduler,
        memory_of(device),
        budget_bytes=budget_bytes(settings.worker, device),
        limit_s=settings.worker.start_s,
        guard=settings.queue.starvation_guard,
    )


def _watch(settings: Settings, opened: _Opened, publisher: Publisher, info: WorkerInfo) -> RepositoryWatch:
    cache = Path(settings.worker.cache_dir or cache_directory() or tempfile.gettempdir())
    return RepositoryWatch(
        opened.residents,
        LocalVersions(Path(settings.models.directory), settings.limits),
        RemoteTree(opened.storage),
        ModelCache(opened.storage, cache),
        shards=opened.shards,
        publisher=publisher,
        info=info,
        serve=settings.models.serve,
        limits=settings.limits,
    )


def _info(settings: Settings, device: Device, models: Sequence[Model], worker_id: str) -> WorkerInfo:
    return WorkerInfo(
        id=worker_id,
        device=device.name,
        host=socket.gethostname(),
        models=tuple(model.id for model in models),
        slots=settings.worker.slots or slots_for(device),
        running=0,
        state="READY",
        started=int(time.time() * 1000),
    )


def _memory(budget: MemoryBudget, device: Device) -> WorkerMemory:
    return WorkerMemory(
        process=resident(),
        tasks=budget.held,
        tasks_limit=budget.total,
        device_limit=device.memory_limit_bytes,
        pinned=host_blocks(device).locked_bytes,
    )


async def _buckets(settings: Settings, stack: AsyncExitStack) -> S3Inputs | None:
    # Only where inputs may be in buckets: the vendor's library takes 0.3 s to import, and its memory.
    if not settings.limits.s3_inputs:
        return None
    return await stack.enter_async_context(S3Inputs(settings.storage, settings.redis.namespace))


async def _scheduler(
    settings: Settings, device: Device, runners: Iterable[Runner], stack: AsyncExitStack
) -> DeviceScheduler:
    tiles = stack.enter_context(Threads(tile_threads(device), "tiles"))
    scheduler = DeviceScheduler(device, tiles, guard=settings.queue.starvation_guard)
    return await stack.enter_async_context(_started(scheduler, runners))


@asynccontextmanager
async def _started(scheduler: DeviceScheduler, runners: Iterable[Runner]) -> AsyncIterator[DeviceScheduler]:
    try:
        try:
            await scheduler.start(runners)
        except DeviceBroken as error:
            logger.bind(error=str(error)).critical("device lost while models were loaded, process ends")
            raise
        yield scheduler
    finally:
        await scheduler.close()


async def _keep_up(settings: Settings, shards: Shards, storage: Storage) -> None:
    await asyncio.gather(
        *(run_upkeep(store, storage) for store in shards),
        watch_store(shards),
        StorageWatch().run(storage),
        watch_loop(),
        watch_disks(disks_of(settings, has_spool=True)),
    )


async def _open_late(opening: Opening) -> None:
    """Open the shards that were away at the start; the worker ends when one of them must not be used."""
    await opening.all()
    await asyncio.Event().wait()  # a loop that returns ends the worker, too
