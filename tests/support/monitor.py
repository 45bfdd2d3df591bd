"""Every command that a Redis server runs, also inside scripts: `MONITOR` that ends.

A read blocks until it has everything that was run before it.
"""

import asyncio
import re
import secrets
import socket
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, NamedTuple

import redis.asyncio

from penstock.store.scripts import TEXTS, Scripts

_LINE = re.compile(rb"\+[\d.]+ \[\d+ (\S+)\] ")
_WORD = re.compile(rb'"((?:[^"\\]|\\.)*)"')

_READING = """
    exists get getrange hexists hget hgetall hkeys hlen hmget hrandfield hvals lindex llen lrange mget pttl scard
    sismember smembers srandmember strlen ttl type zcard zcount zlexcount zmscore zrange zrangebylex zrangebyscore
    zrank zrevrange zrevrangebylex zrevrangebyscore zscore
"""
_TOUCHING_NOTHING = "client echo eval evalsha hello info monitor ping publish script select time"
"""A script touches what its commands do, which follow."""
_OF_KEYS = "del exists mget unlink"
_OF_MEMBERS = "hdel hexists hget hmget sadd sismember srem zmscore zrem zscore"
_OF_ONE_MEMBER = "hincrby hincrbyfloat hsetnx"

READS, _SILENT, _ALL_ARE_KEYS, _ALL_ARE_MEMBERS, _FIRST_IS_MEMBER = (
    frozenset(names.split()) for names in (_READING, _TOUCHING_NOTHING, _OF_KEYS, _OF_MEMBERS, _OF_ONE_MEMBER)
)
_OPTIONS = frozenset((b"NX", b"XX", b"GT", b"LT", b"CH", b"INCR"))

WHOLE = b""
"""Stands for all members of a key, or for all keys."""


class Command(NamedTuple):
    """One command that the server ran."""

    name: str
    words: tuple[bytes, ...]
    is_of_script: bool


class Touch(NamedTuple):
    """A key, or a member of one, that a command reads or writes."""

    key: bytes
    member: bytes
    is_written: bool


class Monitor:
    """Records everything that a server runs from the start of the monitor on."""

    def __init__(self, path: str) -> None:
        """`path` is the unix socket of the server."""
        self._heard, self._marker = (_connected(path) for _ in range(2))
        self._heard.sendall(b"MONITOR\r\n")
        self._rest = b""
        while b"\r\n" not in self._rest:
            self._rest += self._heard.recv(65536)
        self._rest = self._rest.partition(b"\r\n")[2]
        self._name = secrets.token_hex(4).encode()
        self._marks = 0

    def since(self) -> list[Command]:
        """Returns the commands since the last call."""
        self._marks += 1
        mark = b"%s-%d" % (self._name, self._marks)
        self._marker.sendall(b"*2\r\n$4\r\nECHO\r\n$%d\r\n%s\r\n" % (len(mark), mark))
        end = b'"ECHO" "%s"\r\n' % mark
        while (found := self._rest.find(end)) < 0:
            self._rest += self._heard.recv(1 << 20)
        said, self._rest = self._rest[:found], self._rest[found + len(end) :]
        self._marker.recv(4096)
        return [_command(line) for line in said.split(b"\r\n")[:-1]]

    def close(self) -> None:
        """Stops the monitor."""
        self._heard.close()
        self._marker.close()


@contextmanager
def monitoring(path: str) -> Iterator[Monitor]:
    """Monitors the server at this socket."""
    monitor = Monitor(path)
    try:
        yield monitor
    finally:
        monitor.close()


def touches(commands: list[Command]) -> frozenset[Touch]:
    """Returns the keys and members that these commands read and write."""
    return frozenset(touch for command in commands for touch in _touches_of(command))


def conflict(some: frozenset[Touch], others: frozenset[Touch]) -> bool:
    """Whether the order of the two can make a difference."""
    return any(
        (one.is_written or other.is_written)
        and (one.key == other.key or WHOLE in (one.key, other.key))
        and (one.member == other.member or WHOLE in (one.member, other.member))
        for one in some
        for other in others
    )


def _touches_of(command: Command) -> Iterator[Touch]:
    name, words = command.name, command.words
    if name in _SILENT:
        return
    is_written = name not in READS
    if name == "flushdb":
        yield Touch(WHOLE, WHOLE, True)
    elif name in _ALL_ARE_KEYS:
        yield from (Touch(key, WHOLE, is_written) for key in words)
    else:
        yield from (Touch(words[0], member, is_written) for member in _members_of(name, words[1:]))


def _members_of(name: str, words: tuple[bytes, ...]) -> tuple[bytes, ...]:
    if name in _ALL_ARE_MEMBERS:
        return words
    if name == "hset":
        return words[::2]
    if name in _FIRST_IS_MEMBER:
        return words[:1]
    if name == "zadd":
        return tuple(word for word in words if word.upper() not in _OPTIONS)[1::2]
    return (WHOLE,)


def _command(line: bytes) -> Command:
    found = _LINE.match(line)
    assert found, line
    name, *words = _WORD.findall(line, found.end())
    return Command(name.decode().lower(), tuple(words), found[1] == b"lua")


def _connected(path: str) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(10)
    connection.connect(path)
    return connection


@asynccontextmanager
async def counted(url: str) -> AsyncIterator[Counter[str]]:
    """Counts how often each script, and each command outside scripts, is sent inside the block."""
    counts: Counter[str] = Counter()
    async with redis.asyncio.Redis.from_url(url) as client, client.monitor() as monitor:
        names = await script_names(client)

        async def count() -> None:
            while True:
                seen = await monitor.next_command()
                if seen["client_type"] != "lua":
                    name, _, rest = seen["command"].partition(" ")
                    counts[names.get(rest[:40], name.upper())] += 1

        counting = asyncio.create_task(count())
        yield counts
        await client.echo("the end")
        async with asyncio.timeout(60):
            while not counts["ECHO"]:
                await asyncio.sleep(0.01)
        counting.cancel()
        await asyncio.gather(counting, return_exceptions=True)


async def script_names(client: Any) -> dict[str, str]:
    """Returns the name of each script by its digest."""
    scripts = Scripts(client)
    await scripts.load()
    return {scripts[name].sha: name for name in TEXTS}
