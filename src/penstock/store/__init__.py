"""The task store: Redis is spoken here and nowhere else."""

from penstock.store.answers import (
    Claim,
    Explanation,
    NotItsTurn,
    Pace,
    Page,
    Pause,
    Purged,
    QueueDepth,
    ResultFound,
    Running,
    SetAside,
    Submitted,
    WorkerInfo,
    WorkerMemory,
)
from penstock.store.batches import BatchStore
from penstock.store.condemned import Condemned, place_of
from penstock.store.connection import Redis, connect
from penstock.store.inspection import ServerInfo, check_server, look_at, takes_writes
from penstock.store.installation import Identity, Installation, owner_of
from penstock.store.operator import Operator
from penstock.store.outbox import Due, LeasedEvent, Outbox
from penstock.store.tasks import TaskStore
from penstock.store.uploads import Opened, UploadStore

__all__ = [
    "BatchStore",
    "Claim",
    "Condemned",
    "Due",
    "Explanation",
    "Identity",
    "Installation",
    "LeasedEvent",
    "NotItsTurn",
    "Opened",
    "Operator",
    "Outbox",
    "Pace",
    "Page",
    "Pause",
    "Purged",
    "QueueDepth",
    "Redis",
    "ResultFound",
    "Running",
    "ServerInfo",
    "SetAside",
    "Submitted",
    "TaskStore",
    "UploadStore",
    "WorkerInfo",
    "WorkerMemory",
    "check_server",
    "connect",
    "look_at",
    "owner_of",
    "place_of",
    "takes_writes",
]
