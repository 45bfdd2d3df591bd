"""Webhooks (Standard Webhooks 1.0): signed messages about tasks and batches, delivered at least once."""

from collections.abc import Awaitable, Callable

from penstock.core.batch import Batch
from penstock.core.events import Event, Webhook
from penstock.core.task import Task

Body = Callable[[Task | Batch, Event, Webhook], Awaitable[str]]
"""Writes the JSON text of a message. The API provides it, since it knows how tasks and batches are shown."""
