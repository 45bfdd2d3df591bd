"""The processes of an installation: the product's own parts, put together as `api/app.py` and `worker/process.py` do,
without sockets, threads and files."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any

from msgspec.structs import replace

from penstock.api.services import PATIENCE_S, Services
from penstock.api.waiting import Waiting
from penstock.api.watching import Watching
from penstock.core.batch import Batch
from penstock.core.events import Event, Webhook
from penstock.core.lease import RetryPolicy
from penstock.core.task import Task
from penstock.errors import ImageDecodeFailed, InputDownloadFailed, StoreUnavailable
from penstock.intake.batch_feeder import Feeder
from penstock.intake.estimates import Estimates
from penstock.intake.models import WatchedCatalogue
from penstock.intake.quotas import QuotaTable
from penstock.models.base import Params, Work, model_runner
from penstock.models.description import describe
from penstock.models.noop import Noop
from penstock.net.guard import Policy
from penstock.settings import ApiSettings, LimitSettings, QueueSettings, RedisSettings, Settings, WebhookSettings
from penstock.store import Shards, WorkerInfo, WorkerMemory, connect
from penstock.upkeep.rounds import run_upkeep
from penstock.webhooks.dispatcher import Dispatcher
from penstock.webhooks.sender import PostOutcome
from penstock.worker.batcher.scheduler import DeviceScheduler
from penstock.worker.codecs import CodecThreads
from penstock.worker.devices import cpu
from penstock.worker.fetch import Fetcher
from penstock.worker.host import Host
from penstock.worker.inputs import Inputs
from penstock.worker.memory import MemoryBudget
from penstock.worker.pipeline import Pipeline
from penstock.worker.publisher import Publisher
from penstock.worker.residency.residents import Residents
from penstock.worker.spool import Spool
from penstock.worker.threads import Threads
from tests.seeds.inline import work_for
from tests.seeds.storage import SimulatedStorage
from tests.support.published import published
from tests.support.stores import worker_info

NAMESPACE = "seeds"
REDIS = RedisSettings(url="redis://simulated:6379/0", namespace=NAMESPACE)
QUEUE = QueueSettings(max_crashes=20, max_retries=3, retry_base_s=0.2, retry_cap_s=2, batch_window=4)
SECRET = "whsec_" + base64.b64encode(b"s" * 32).decode()
SETTINGS = Settings(
    api=ApiSettings(rate_limit_per_minute=10**6),
    queue=QUEUE,
    redis=REDIS,
    webhooks=WebhookSettings(secrets=(SECRET,), timeout_s=4, retries_s=(0.5,) * 60),
)
SLOTS = 3

Post = Callable[[str, Mapping[str, str], str], Awaitable[PostOutcome]]


class Chosen(Params):
    """How a task ends, and how long the device works for it."""

    ends: str = "well"
    ms: int = 10


@model_runner("seeded-v1")
class Seeded(Noop):
    """Does nothing, for as long as its parameters say, and fails as they say: always, or `by_chance`."""

    params = Chosen
    by_chance: Callable[[], bool] = staticmethod(lambda: False)

    def prepare(self, source: bytes, params: Params) -> Work:
        """Return one tile; what is to become of it is the context."""
        work = Work([None], context=params)  # type: ignore[list-item]
        if isinstance(params, Chosen) and params.ends == "badly":
            raise ImageDecodeFailed("this task cannot succeed")
        return work

    def infer(self, tiles: list[Any], work: Work) -> list[Any]:
        """Take its time, and return what came in."""
        work_for(work.context.ms / 1000)
        if work.context.ends == "flaky" and Seeded.by_chance():
            raise InputDownloadFailed("by chance")
        return tiles


MODEL = describe(Seeded)


class Api:
    """One API process. `services` are there when it is up."""

    def __init__(self) -> None:
        self.services: Services | None = None

    async def run(self, storage: SimulatedStorage, post: Post) -> None:
        """Serve until it is killed."""
        async with connect(REDIS) as client:
            shards = Shards.over({NAMESPACE: client}, QUEUE, patience_s=PATIENCE_S)
            patient, policy = Shards.over({NAMESPACE: client}, QUEUE), Policy.from_limits(SETTINGS.limits)
            store = shards.home
            models = WatchedCatalogue(store.models)
            models.take(published(MODEL))
            self.services = Services(
                settings=SETTINGS,
                models=models,
                policy=policy,
                webhook_policy=policy,
                store=store,
                patient_store=patient.home,
                shards=shards,
                patient_shards=patient,
                storage=storage,
                waiting=Waiting(store),
                watching=Watching(store),
                estimates=Estimates(store),
                quotas=QuotaTable(SETTINGS.quotas),
                checking=asyncio.Lock(),
            )
            self.services.of_each.append(self.services)
            dispatcher = Dispatcher(patient.home, body_of, SETTINGS.webhooks, SETTINGS.limits)
            dispatcher._senders = {is_prompt: SimulatedSender(post) for is_prompt in (True, False)}  # type: ignore[misc]
            await asyncio.gather(
                run_upkeep(store, storage),
                models.run(),
                self.services.waiting.run(),
                Feeder(self.services).run(),
                dispatcher.run(),
            )


class SimulatedSender:
    """Posts messages to the receiver of the simulation."""

    def __init__(self, post: Post) -> None:
        self.post = post

    async def __aenter__(self) -> "SimulatedSender":
        return self

    async def __aexit__(self, *_: object) -> None:
        pass


async def body_of(subject: Task | Batch, event: Event, _: Webhook) -> str:
    """Return the body of a message: what it is about."""
    return json.dumps({"subject": subject.id, "type": event.type, "seq": event.seq})


class Worker:
    """One worker process. `host` is there when it is up."""

    def __init__(self, worker_id: str) -> None:
        self.id = worker_id
        self.host: Host | None = None

    async def run(self, storage: SimulatedStorage, *, dead: str = "") -> None:
        """Work until a signal. `dead` is a worker that was seen to die: its tasks are taken back first."""
        async with AsyncExitStack() as stack:
            client = await stack.enter_async_context(connect(REDIS))
            shards = Shards.over({NAMESPACE: client}, QUEUE)
            store = shards.home
            while dead:
                try:
                    await store.overdue.reclaim(dead)
                    dead = ""
                except StoreUnavailable:
                    await asyncio.sleep(0.5)
            spool = Spool(storage, directory="", max_bytes=0)
            stack.push_async_callback(spool.aclose)
            pipeline = await stack.enter_async_context(_pipeline(storage, spool))
            info = replace(worker_info(self.id, (MODEL.id,)), slots=SLOTS)
            publisher = Publisher(store.models, store.workers, self.id, "cpu")
            await publisher.publish([MODEL])
            self.host = _host(info, shards, storage, spool, pipeline, {"publisher": publisher.run})
            await self.host.serve()


@asynccontextmanager
async def _pipeline(storage: SimulatedStorage, spool: Spool) -> AsyncIterator[Pipeline]:
    device, limits = cpu(2), LimitSettings()
    codecs, scheduler = CodecThreads(device), DeviceScheduler(device, Threads(2, "tiles"))
    runners = [Seeded(limits)]
    await scheduler.start(runners)
    residents = Residents()
    residents.hold(runners, [MODEL])
    async with Fetcher(limits) as fetcher:
        yield Pipeline(
            residents,
            scheduler,
            inputs=Inputs(fetcher, storage, codecs, limits),
            storage=storage,
            spool=spool,
            codecs=codecs,
            memory=MemoryBudget(10**9),
            limits=limits,
        )


def _host(
    info: WorkerInfo,
    shards: Shards,
    storage: SimulatedStorage,
    spool: Spool,
    pipeline: Pipeline,
    beside: Mapping[str, Callable[[], Coroutine[Any, Any, None]]],
) -> Host:
    return Host(
        info=info,
        models=pipeline.models,
        beside={"upkeep": partial(run_upkeep, shards.home, storage), **beside},
        look_for_models=lambda: None,
        memory=lambda: WorkerMemory(process=0, tasks=0, tasks_limit=0, device_limit=0),
        shards=shards,
        pipeline=pipeline,
        spool=spool,
        retry=RetryPolicy(base_s=QUEUE.retry_base_s, cap_s=QUEUE.retry_cap_s),
        slots=SLOTS,
        reserved_slots=1,
        lease_s=QUEUE.lease_s,
        drain_s=2,
    )
