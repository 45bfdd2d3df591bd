"""Webhooks by Standard Webhooks 1.0: who asked for it is told of what happens to a task or a batch, signed, at least
once."""

from collections.abc import Awaitable, Callable

from penstock.core.batch import Batch
from penstock.core.task import Event, Task, Webhook

Body = Callable[[Task | Batch, Event, Webhook], Awaitable[str]]
"""What a message says, as JSON."""
