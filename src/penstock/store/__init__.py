"""The task store: Redis is spoken here and nowhere else."""

from penstock.store.answers import (
    Claim,
    Explanation,
    NotItsTurn,
    Pace,
    Page,
    QueueDepth,
    Reclaimed,
    Submitted,
    WorkerInfo,
)
from penstock.store.batches import BatchStore
from penstock.store.connection import Redis, check_server, connect
from penstock.store.inspection import ServerInfo, look_at
from penstock.store.outbox import Due, LeasedEvent, Outbox
from penstock.store.tasks import TaskStore
from penstock.store.uploads import Opened, UploadStore

__all__ = [
    "BatchStore",
    "Claim",
    "Due",
    "Explanation",
    "LeasedEvent",
    "NotItsTurn",
    "Opened",
    "Outbox",
    "Pace",
    "Page",
    "QueueDepth",
    "Reclaimed",
    "Redis",
    "ServerInfo",
    "Submitted",
    "TaskStore",
    "UploadStore",
    "WorkerInfo",
    "check_server",
    "connect",
    "look_at",
]
