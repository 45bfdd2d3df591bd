"""The world in which callers meet: a real Redis, a storage in memory, and parts of a server and of a worker.

A situation is prepared once, and each run begins with a copy of it. The clock stands still, so that the same order of
calls always does the same.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from types import SimpleNamespace
from typing import Any

from litestar.datastructures import State as AppState

from penstock.api.services import Services
from penstock.api.waiting import Waiting
from penstock.api.watching import Watching
from penstock.core.access import TENANT
from penstock.core.access import Caller as ApiCaller
from penstock.core.lease import Lease, RetryPolicy
from penstock.core.task import Artifact, Result
from penstock.errors import ImageDecodeFailed, InputDownloadFailed
from penstock.intake.batch_feeder import Feeder
from penstock.intake.enqueue import KEPT_IN_RECORD_BYTES
from penstock.intake.estimates import Estimates
from penstock.intake.models import WatchedCatalogue
from penstock.intake.quotas import QuotaTable
from penstock.models import noop
from penstock.models.base import registry
from penstock.models.description import describe
from penstock.net.guard import Policy
from penstock.settings import ApiSettings, LimitSettings, QueueSettings, RedisSettings, Settings
from penstock.storage import Item, Storage
from penstock.store import Engine, Redis, Shards, Store, connect
from penstock.worker.attempt import Attempts
from penstock.worker.inputs import Inputs
from penstock.worker.memory import MemoryBudget
from penstock.worker.pipeline import Pipeline
from penstock.worker.residency.residents import Residents
from penstock.worker.spool import Spool, StoredFiles
from tests.interleave.callers import ByTurns, StorageByTurns, call, written
from tests.support.memory_storage import MemoryStorage
from tests.support.monitor import WHOLE, Touch
from tests.support.moved_clock import KEY, STILL, moved_clock
from tests.support.published import published
from tests.support.queue_snapshot import Snapshot, take_snapshot

NAMESPACE = "between"
REAPER = f"{{{NAMESPACE}}}:reaper"
MODEL = noop.Noop.name
DESCRIBED = describe(noop.Noop)
ALICE = ApiCaller("alice", TENANT)
MORNING_US = 1_800_000_000_000_000
"""The time at which every situation begins, in µs since 1970."""

API = ApiSettings(rate_limit_per_minute=10**6)
INLINE_BYTES = KEPT_IN_RECORD_BYTES + 1
"""The size of an input that stays in Redis, where there is room for two of them; a larger one is stored."""
QUEUE = QueueSettings(
    lease_s=6, result_ttl_s=86_400, batch_window=2, max_retries=1, retry_base_s=0.001,
    inline_input_bytes=INLINE_BYTES, inline_budget_bytes=2 * INLINE_BYTES,
)  # fmt: skip

BRING_BACK = """
-- Make the database what it was: {key, what DUMP has given, key, ...}.
redis.call('FLUSHDB')
for i = 1, #ARGV, 2 do redis.call('RESTORE', ARGV[i], 0, ARGV[i + 1]) end
"""


class World:
    """The objects that acts use. `services` is what the handlers of the API get."""

    def __init__(
        self,
        client: Redis,
        engine: type[Engine] = ByTurns,
        storage: MemoryStorage | None = None,
        queue: QueueSettings = QUEUE,
    ) -> None:
        """`engine` is the class of the engine through which the store calls Redis."""
        self.client = client
        self.storage = storage or StorageByTurns()
        settings = Settings(api=API, queue=queue, redis=RedisSettings(namespace=NAMESPACE))
        self.store = Store(engine(client, NAMESPACE, queue))
        self.batches, self.uploads = self.store.batches, self.store.uploads
        self.outbox, self.condemned = self.store.outbox, self.store.condemned
        plain = Store(Engine(client, NAMESPACE, queue))
        policy, models = Policy.from_limits(settings.limits), WatchedCatalogue(plain.models)
        models.take(published(DESCRIBED))
        self.services = Services(
            settings=settings,
            models=models,
            policy=policy,
            webhook_policy=policy,
            store=self.store,
            patient_store=self.store,
            shards=Shards([self.store]),
            patient_shards=Shards([self.store]),
            storage=self.storage,
            waiting=Waiting(self.store),
            watching=Watching(self.store),
            estimates=Estimates(plain),  # it refreshes by the real clock, so the scheduler leaves it out
            quotas=QuotaTable(settings.quotas),
            checking=asyncio.Lock(),
        )
        self.services.of_each.append(self.services)
        self.feeder = Feeder(self.services)
        self.request = SimpleNamespace(auth=ALICE, base_url="http://here/", app=SimpleNamespace(state=AppState()))
        self.beginning = Saved([], {}, {})
        """The situation at the start of the run."""
        self.attempts: dict[str, Attempt] = {}
        """The running attempts, by the keys of their leases."""
        self.leases: dict[str, Lease] = {}
        """The leases of tasks that were claimed during the preparation."""
        self._ahead_ms = 0

    def worker(self, end: str) -> Attempts:
        """Returns a worker whose model does this."""
        return Attempts(Shards([self.store]), Work(self.storage, end), RetryPolicy(base_s=0.0, cap_s=0.2))

    async def run(self, lease: Lease, end: str) -> None:
        """Acts as a worker after the claim. It hears of a cancel until the outcome is decided."""
        attempts = self.worker(end)
        attempt = Attempt(attempts, lease)
        running = attempts.run(lease, _ignore, until_free=_at_once, is_stopped=lambda: attempt.is_aborted)
        attempt.task = asyncio.create_task(running)
        self.attempts[lease.key] = attempt
        with suppress(asyncio.CancelledError):
            await attempt.task
        self.attempts.pop(lease.key, None)

    async def tell_worker(self, lease: Lease) -> None:
        """Tells the worker that runs a task under this lease that it was canceled."""
        async with call("the worker hears of it", Touch(WHOLE, WHOLE, True)):
            if attempt := self.attempts.get(lease.key):
                attempt.abort()

    async def advance(self, seconds: float) -> None:
        """Sets the clock of Redis forward."""
        async with call("the clock is set forward"):
            await self.client.incrby(KEY, int(seconds * 1_000_000))

    async def time_passes(self, seconds: float) -> None:
        """Sets the clock forward as if the reaper looked at it every second, so that it sees no jump."""
        async with call("time passes"):
            await self.client.incrby(KEY, int(seconds * 1_000_000))
            if await self.client.exists(REAPER):
                await self.client.incrby(REAPER, int(seconds * 1000))

    async def put_by_link(self, key: str, data: bytes, until_ms: int) -> None:
        """Acts as the bucket, which accepts bytes by a signed link while the link is valid."""
        async with call(f"PUT {key}", written(key)):
            if await self.now_ms() < until_ms:
                self.storage.objects[key] = data

    async def lose_writes(self) -> None:
        """Makes Redis lose the writes since the beginning, as when its disk or its master is lost."""
        async with call("Redis loses its last writes"):
            await self.beginning.bring_back_redis(self)

    async def look(self) -> Snapshot:
        """Returns the whole content of Redis."""
        return await take_snapshot(self.client, NAMESPACE)

    async def now_ms(self) -> int:
        """Returns the time of the test's clock."""
        return int(await self.client.get(KEY)) // 1000


class Work(Pipeline):
    """The stages of a worker with a model that takes no time: the input is read and the result stored as usual."""

    def __init__(self, storage: Storage, end: str) -> None:
        models = Residents()
        models.hold([registry()[MODEL](LimitSettings())])
        super().__init__(
            models,
            None,  # type: ignore[arg-type]  no device
            inputs=Inputs(
                SimpleNamespace(max_bytes=1 << 20),  # type: ignore[arg-type]  nothing is fetched by URL
                storage,
                None,  # type: ignore[arg-type]  no digest to compare
                LimitSettings(),
            ),
            storage=storage,
            spool=Spool(storage, directory="", max_bytes=0),
            codecs=None,  # type: ignore[arg-type]  no pixels
            memory=MemoryBudget(1 << 30),
            limits=LimitSettings(),
        )
        self._end = end

    async def _make(self, lease: Lease, *_: Any) -> tuple[Result, StoredFiles | None, dict[str, Any]]:
        ENDS[self._end]()
        key, data = f"results/{lease.tenant}/{lease.id}/{lease.token}.png", f"of claim {id(lease)}".encode()
        artifact = Artifact(
            name="result.png",
            s3_key=key,
            size=len(data),
            sha256=hashlib.sha256(data).hexdigest(),
            content_type="image/png",
        )
        return Result(artifacts=(artifact,)), StoredFiles([Item(key, data, "image/png")]), {"device_ms": 1.0}


class Attempt:
    """A running attempt that may be aborted."""

    def __init__(self, attempts: Attempts, lease: Lease) -> None:
        self.is_aborted = False
        self.task: asyncio.Task[None] | None = None
        self._attempts, self._lease = attempts, lease

    def abort(self) -> None:
        """Aborts as the host of a worker does."""
        if self.task and self._lease.key not in self._attempts.settling:
            self.is_aborted = True
            self.task.cancel()


async def _at_once() -> None:
    pass


def _raise(error: BaseException) -> Callable[[], None]:
    def end() -> None:
        raise error

    return end


def _ignore(*_: object) -> None:
    pass


ENDS: dict[str, Callable[[], None]] = {
    "complete": _ignore,
    "fail": _raise(ImageDecodeFailed("the image is damaged")),
    "retry": _raise(InputDownloadFailed("timed out")),
    "release": _raise(asyncio.CancelledError()),
}
"""What a model does at the end of its work."""


class Saved:
    """A saved situation."""

    def __init__(self, rows: list[bytes], objects: dict[str, bytes], leases: dict[str, Lease]) -> None:
        self._rows, self._objects, self._leases = rows, objects, leases

    @classmethod
    async def of(cls, world: World) -> "Saved":
        """Saves the present situation."""
        keys = sorted(await world.client.keys("*"))
        rows = [part for key in keys for part in (key, await world.client.dump(key))]
        return cls(rows, dict(world.storage.objects), dict(world.leases))

    async def bring_back_redis(self, world: World) -> None:
        """Restores only the content of Redis."""
        await world.client.eval(BRING_BACK, 0, *self._rows)

    async def bring_back(self, world: World) -> None:
        """Restores the whole situation."""
        await self.bring_back_redis(world)
        world.storage.objects.clear()
        world.storage.objects.update(self._objects)
        world.leases = dict(self._leases)
        world.attempts.clear()


@asynccontextmanager
async def open_world(socket: str) -> AsyncIterator[World]:
    """Opens a world on a server that nothing else uses."""
    async with AsyncExitStack() as opened:
        opened.enter_context(moved_clock(STILL))
        client = await opened.enter_async_context(connect(RedisSettings(url=f"unix://{socket}")))
        yield World(client)


async def begin(world: World) -> None:
    """Empties the world."""
    await world.client.flushdb()
    await world.client.set(KEY, MORNING_US)
    world.storage.objects.clear()
    world.leases.clear()
