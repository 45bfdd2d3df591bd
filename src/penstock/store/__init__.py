"""The store of tasks, batches and uploads: the one place that talks to Redis."""

from penstock.lazy_import import postpone

postpone("jwt")  # redis-py imports it for the tokens of clouds, and it imports a HTTP client and cryptography

from penstock.store.access_keys import AccessKeyStore, KnownKeys
from penstock.store.accounts import AccountStore, Holdings, Usage, UsageDay
from penstock.store.answers import (
    Claim,
    Explanation,
    NotItsTurn,
    Pace,
    Page,
    Pause,
    PublishedModel,
    PublishedModels,
    Purged,
    QueueDepth,
    ResultFound,
    Running,
    SetAside,
    Submitted,
    UnderWay,
    UploadGone,
    WorkerInfo,
    WorkerMemory,
)
from penstock.store.audit import AuditEntry, AuditRecord, AuditStore
from penstock.store.batches import BatchStore
from penstock.store.condemned import Condemned, place_of
from penstock.store.connection import Redis, connect
from penstock.store.engine import Engine
from penstock.store.inline import InlineInputs
from penstock.store.inspection import ServerInfo, check_server, look_at, open_server, takes_writes
from penstock.store.installation import Identity, Installation, owner_of
from penstock.store.leases import LeaseStore
from penstock.store.models import ModelStore
from penstock.store.opening import Opening
from penstock.store.outbox import Due, LeasedEvent, Outbox, Quota
from penstock.store.owed import OwedEndpoint, OwedEvent
from penstock.store.queues import QueueStore
from penstock.store.quotas import QuotaStore, RequestCount
from penstock.store.shards import Clients, Shards, check_count, connect_each, settle_count
from penstock.store.store import Store
from penstock.store.tasks import TaskStore
from penstock.store.topology import Topology, topology_of
from penstock.store.totals import Totals
from penstock.store.uploads import Opened, UploadStore
from penstock.store.workers import WorkerStore

__all__ = [
    "AccessKeyStore",
    "AccountStore",
    "AuditEntry",
    "AuditRecord",
    "AuditStore",
    "BatchStore",
    "Claim",
    "Clients",
    "Condemned",
    "Due",
    "Engine",
    "Explanation",
    "Holdings",
    "Identity",
    "InlineInputs",
    "Installation",
    "KnownKeys",
    "LeaseStore",
    "LeasedEvent",
    "ModelStore",
    "NotItsTurn",
    "Opened",
    "Opening",
    "Outbox",
    "OwedEndpoint",
    "OwedEvent",
    "Pace",
    "Page",
    "Pause",
    "PublishedModel",
    "PublishedModels",
    "Purged",
    "QueueDepth",
    "QueueStore",
    "Quota",
    "QuotaStore",
    "Redis",
    "RequestCount",
    "ResultFound",
    "Running",
    "ServerInfo",
    "SetAside",
    "Shards",
    "Store",
    "Submitted",
    "TaskStore",
    "Topology",
    "Totals",
    "UnderWay",
    "UploadGone",
    "UploadStore",
    "Usage",
    "UsageDay",
    "WorkerInfo",
    "WorkerMemory",
    "WorkerStore",
    "check_count",
    "check_server",
    "connect",
    "connect_each",
    "look_at",
    "open_server",
    "owner_of",
    "place_of",
    "settle_count",
    "takes_writes",
    "topology_of",
]
