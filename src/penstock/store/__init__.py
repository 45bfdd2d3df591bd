"""The task store: Redis is spoken here and nowhere else."""

from penstock.store.connection import Redis, check_server, connect
from penstock.store.tasks import (
    Claim,
    Page,
    QueueDepth,
    Reclaimed,
    Submitted,
    TaskStore,
    WorkerInfo,
)

__all__ = [
    "Claim",
    "Page",
    "QueueDepth",
    "Reclaimed",
    "Redis",
    "Submitted",
    "TaskStore",
    "WorkerInfo",
    "check_server",
    "connect",
]
