"""Changes: one subscription of a process that hears of single tasks as they change."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from penstock.errors import StoreUnavailable
from penstock.store.connection import LISTENED_S, Redis, translated

if TYPE_CHECKING:
    from redis.asyncio.client import PubSub

MAX_PAUSE_S = 1.0
"""Longest wait before a broken connection is opened again."""


class Changes:
    """Tells of the tasks that are followed. Each task has a channel of its own, so that Redis sends nothing about tasks
    that nobody watches; one connection listens to all of them, and is opened with the first."""

    def __init__(self, client: Redis, prefix: str, watch: Callable[[Sequence[str]], Awaitable[None]]) -> None:
        """The changes of a task are told once `watch` was called with its id."""
        self._client = client
        self._channels = client.channels
        self._prefix = prefix
        self._watch = watch
        self._wanted: frozenset[str] = frozenset()
        self._differs = asyncio.Event()

    def follow(self, task_ids: Iterable[str]) -> None:
        """Follow these tasks from now on, and no others."""
        self._wanted = frozenset(self._prefix + task_id for task_id in task_ids)
        self._differs.set()

    async def run(self, tell: Callable[[str], None]) -> None:
        """Call `tell` with the id of a followed task whenever it has changed, for ever; also once each time its channel
        is opened, since changes before that were missed."""
        pause_s = 0.0
        while True:
            await asyncio.sleep(pause_s)
            await self._differs.wait()
            pubsub = self._client.pubsub()
            try:
                with translated():
                    await pubsub.connect()  # type: ignore[no-untyped-call]
                pause_s = 0.05
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._keep_up(pubsub))
                    group.create_task(self._read(pubsub, tell))
            except* StoreUnavailable:
                pause_s = min(MAX_PAUSE_S, pause_s * 2)
                self._differs.set()
            finally:
                await pubsub.aclose()  # type: ignore[no-untyped-call]

    async def _keep_up(self, pubsub: "PubSub") -> None:
        heard: frozenset[str] = frozenset()
        while True:
            await self._differs.wait()
            self._differs.clear()
            wanted = self._wanted
            new = wanted - heard
            if new:
                await self._watch([channel.removeprefix(self._prefix) for channel in new])
            with translated():
                if new:
                    await pubsub.execute_command(self._channels.subscribe, *new)
                if old := heard - wanted:
                    await pubsub.execute_command(self._channels.unsubscribe, *old)
            heard = wanted

    async def _read(self, pubsub: "PubSub", tell: Callable[[str], None]) -> None:
        generation = self._client.generation
        while self._client.generation == generation:
            with translated():
                message = await pubsub.get_message(timeout=LISTENED_S)
            if message is None or message["type"] == "pong":
                continue
            kind, channel = message["type"].encode(), message["channel"].decode()
            if kind != self._channels.ended:
                tell(channel.removeprefix(self._prefix))
            elif channel in self._wanted:  # its slot has moved to another node, or it is wanted again
                raise StoreUnavailable("a channel is on another node")
        raise StoreUnavailable("all connections are left")
