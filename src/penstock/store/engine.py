"""Engine: the one way to Redis for every part of the store, with its connection, its keys and its scripts."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from redis.exceptions import NoScriptError, ResponseError

from penstock.settings import QueueSettings
from penstock.store.connection import Redis, ask
from penstock.store.keys import Keys
from penstock.store.salvage import Direct, Salvage
from penstock.store.scripts import TAKES, Argument

T = TypeVar("T")

Command = Sequence[Argument]
Arguments = Mapping[str, Argument | Sequence[Argument]]
Answer = Coroutine[Any, Any, Any]

PATIENCE_S = 2.0
"""Longest wait for one answer of Redis, where no client waits for us."""

READ_BYTES = 2 * 1024 * 1024
"""Most bytes of records that one round trip reads: decoding them holds up the event loop."""


class Engine:
    """Runs the scripts of one namespace, and plain commands beside them.

    Every method raises StoreUnavailable when Redis cannot be reached or refuses. A damaged record that makes a script
    fail is set aside, and the script is run again.
    """

    def __init__(
        self, client: Redis, namespace: str, settings: QueueSettings, *, patience_s: float = PATIENCE_S
    ) -> None:
        """Engines of the same client share its scripts. `patience_s` is the longest wait for one answer."""
        self.client = client
        self.namespace = namespace
        self.keys = Keys(namespace)
        self.settings = settings
        self.lease_ms = int(settings.lease_s * 1000)
        self.salvage = Salvage(self.keys, Direct(client, self.keys, patience_s))
        self._patience_s = patience_s

    def publication(self, channel: str, message: str) -> Command:
        """The command that publishes a message."""
        return (self.client.channels.publish, channel, message)

    async def ping(self) -> None:
        """Raises StoreUnavailable unless Redis answers and takes writes."""
        await self.run("ping")

    def run(self, script: str, /, **values: Argument | Sequence[Argument]) -> Answer:
        """Run a script and return its answer. The values are given by the names in the `takes:` line at the top of its
        Lua file. Raises TypeError when they are not exactly those."""
        return self.call(script, values)

    def run_once(self, script: str, /, **values: Argument | Sequence[Argument]) -> Answer:
        """Like `run`, for scripts that must not run twice: a broken connection is not tried a second time."""
        return self.call(script, values, again=False)

    async def run_to_end(self, script: str, /, **values: Argument) -> list[Any]:
        """Run a script that does a part of its work in each call, until it says that nothing is left. Returns all its
        answers."""
        found: list[Any] = []
        has_more = 1
        while has_more:
            has_more, *part = await self.run(script, **values)
            found += part
        return found

    async def run_each(self, script: str, calls: Sequence[Arguments]) -> list[Any]:
        """Run a script once for each of these calls, in this order, and return the answers. The calls go out in one
        write, and each of them may be repeated."""
        each = [TAKES[script].arguments(values) for values in calls]

        async def run() -> list[Any]:
            await self.client.scripts.load()
            called = self.client.scripts[script]
            return await asyncio.gather(*(called(keys=[self.keys.root], args=args) for args in each))

        return await self._ask(run, about=each) if calls else []

    async def run_apart(self, script: str, calls: Sequence[Arguments]) -> list[Any]:
        """Like `run_each`, for large answers: they come over a connection of the pool and hold up nobody else."""
        await self._ask(self.client.scripts.load)
        called = self.client.scripts[script]
        commands = [("EVALSHA", called.sha, 1, self.keys.root, *TAKES[script].arguments(values)) for values in calls]
        try:
            return await self.pipelined(commands)
        except NoScriptError:
            await self._ask(partial(self.client.script_load, called.script))
            return await self.pipelined(commands)

    async def pipelined(self, commands: Sequence[Command]) -> list[Any]:
        """Run plain commands in one round trip and return their answers. Those that write are for `write`."""

        async def execute() -> list[Any]:
            async with self.client.pipeline(transaction=False) as pipe:
                for command in commands:
                    pipe.execute_command(*command)
                return list(await pipe.execute())

        return await self._ask(execute, about=commands) if commands else []

    async def write(self, commands: Sequence[Command]) -> list[Any]:
        """Run plain commands that write, in one script, and return their answers: all are done or none is, and unlike
        the commands themselves they go on when Redis has no memory left. They may be repeated."""
        words = [word for command in commands for word in (len(command), *command)]
        return list(await self.run("write", words=words)) if commands else []

    async def pieces(self, ids: Sequence[str], key_of: Callable[[str], str]) -> list[list[str]]:
        """Cut ids, in their order, so that the values under their keys are at most READ_BYTES for each piece."""
        return cut(ids, await self.pipelined([("STRLEN", key_of(one)) for one in ids]), READ_BYTES)

    async def copied(self, key: str) -> None:
        """Return when as many replicas as `redis.wait_replicas` says have what is under this key; at once when it says
        none. Raises StoreUnavailable when they have it not in time, though it may be kept all the same."""
        copies = self.client.copies
        if copies is not None:
            await ask(partial(copies.made, self.keys.copies, key), patience_s=self._patience_s, again=False)

    async def call(self, script: str, values: Arguments, *, again: bool = True) -> Any:
        """Run a script as `run` does, or as `run_once` does where `again` is false."""
        args = TAKES[script].arguments(values)
        try:
            return await self.client.run(script, self.keys.root, *args, patience_s=self._patience_s, again=again)
        except ResponseError:
            if not await self.salvage.clear_way(args):
                raise
            return await self.client.run(script, self.keys.root, *args, patience_s=self._patience_s, again=again)

    async def _ask(self, call: Callable[[], Awaitable[T]], *, about: Iterable[Any] = ()) -> T:
        # `about` holds the arguments: when a record is damaged, the ids among them say which are examined first.
        try:
            return await ask(call, patience_s=self._patience_s)
        except NoScriptError:
            raise
        except ResponseError:
            if not await self.salvage.clear_way(about):
                raise
            return await ask(call, patience_s=self._patience_s)


def cut(ids: Sequence[str], sizes: Sequence[int], most: int) -> list[list[str]]:
    """Cut ids into pieces whose sizes add up to at most `most`; one that is larger makes a piece of its own."""
    pieces: list[list[str]] = []
    room = 0
    for one, size in zip(ids, sizes, strict=True):
        if not pieces or size > room:
            pieces.append([])
            room = most
        pieces[-1].append(one)
        room -= size
    return pieces
