"""Store: all that Redis holds for one namespace, each kind of thing under its name."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from penstock.errors import StoreUnavailable
from penstock.store.access_keys import AccessKeyStore
from penstock.store.accounts import AccountStore
from penstock.store.answers import SetAside
from penstock.store.audit import AuditStore
from penstock.store.batches import BatchStore
from penstock.store.caps import RunningCaps
from penstock.store.condemned import Condemned
from penstock.store.engine import Engine
from penstock.store.history import HistoryStore
from penstock.store.inline import InlineInputs
from penstock.store.installation import Installation
from penstock.store.leases import LeaseStore
from penstock.store.listing import TaskListing
from penstock.store.models import ModelStore
from penstock.store.outbox import Outbox
from penstock.store.overdue import Overdue
from penstock.store.queues import QueueStore
from penstock.store.quotas import QuotaStore
from penstock.store.records import set_aside_of
from penstock.store.sessions import SessionStore
from penstock.store.tasks import TaskStore
from penstock.store.tenants import TenantStore
from penstock.store.uploads import UploadStore
from penstock.store.workers import WorkerStore

T = TypeVar("T")


class Store:
    """The parts of the store, all on one engine. Every method of a part raises StoreUnavailable when Redis cannot be
    reached."""

    def __init__(self, engine: Engine, *, shard: int = 0, of: int = 1) -> None:
        """`shard` is its number among so many: see `Shards`."""
        self.engine = engine
        self.namespace = engine.namespace
        self.shard = shard
        self.label = {"shard": shard} if of > 1 else {}
        """What the log has of this store where there are several."""
        self.tasks = TaskStore(engine)
        self.inline = InlineInputs(engine)
        self.listing = TaskListing(engine)
        self.leases = LeaseStore(engine)
        self.overdue = Overdue(engine)
        self.queues = QueueStore(engine)
        self.quotas = QuotaStore(engine)
        self.workers = WorkerStore(engine)
        self.models = ModelStore(engine)
        self.batches = BatchStore(engine)
        self.uploads = UploadStore(engine)
        self.outbox = Outbox(engine)
        self.tenants = TenantStore(engine)
        self.accounts = AccountStore(engine)
        self.caps = RunningCaps(engine)
        self.condemned = Condemned(engine)
        self.access_keys = AccessKeyStore(engine)
        self.sessions = SessionStore(engine)
        self.history = HistoryStore(engine)
        self.audit = AuditStore(engine)
        self.installation = Installation(engine, shard=shard, of=of)

    async def ping(self) -> None:
        """Raises StoreUnavailable unless Redis answers and takes writes."""
        await self.engine.ping()

    def named(self, problem: str) -> str:
        """A problem of this store, which says of which shard where there are several."""
        return f"shard {self.shard}: {problem}" if self.label else problem

    async def part(self, ask: Callable[["Store"], Awaitable[T]]) -> T:
        """The part of this store in something that is asked of all. Raises StoreUnavailable with the name of the
        shard."""
        try:
            return await ask(self)
        except StoreUnavailable as error:
            raise StoreUnavailable(self.named(error.detail), retry_after_s=error.retry_after_s) from error

    async def unreadable(self) -> list[SetAside]:
        """The records that were set aside within a week, the latest first."""
        (rows,) = await self.engine.pipelined([("ZREVRANGE", self.engine.keys.unreadable, 0, -1, "WITHSCORES")])
        return [set_aside_of(member, int(at)) for member, at in zip(rows[::2], rows[1::2], strict=True)]
