"""A clock of Redis that a test controls: it stands still, or runs ahead of the real one, and is moved by a key.

The scripts read the time in one of their parts, and the store with `TIME`; both read this clock instead.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from penstock.store import Engine, scripts

KEY = "the clock of the test"
"""Not in the namespace of the store, so that a look at all its keys does not find it."""

ASKED = "redis.call('TIME')"
STILL = f"{{0, redis.call('GET', '{KEY}')}}"
"""The key holds the time in µs."""
AHEAD = f"(function() local t = {ASKED} return {{t[1], t[2] + (redis.call('GET', '{KEY}') or 0)}} end)()"
"""The key holds by how many µs the clock is ahead."""


@contextmanager
def moved_clock(clock: str) -> Iterator[None]:
    """Makes all scripts that are loaded inside the block use this clock."""
    plain = dict(scripts.TEXTS)
    assert any(ASKED in text for text in plain.values()), "the scripts ask for the time in another way by now"
    scripts.TEXTS.update({name: text.replace(ASKED, clock) for name, text in plain.items()})
    try:
        yield
    finally:
        scripts.TEXTS.update(plain)


class ByStillClock(Engine):
    """An engine that reads the clock that stands still."""

    async def pipelined(self, commands: Sequence[Sequence[str | bytes | float]]) -> list[Any]:
        if ("TIME",) not in commands:
            return await super().pipelined(commands)
        *answers, now = await super().pipelined([*commands, ("GET", KEY)])
        rows = zip(commands, answers, strict=True)
        return [(0, int(now)) if command == ("TIME",) else answer for command, answer in rows]


class ByMovedClock(Engine):
    """An engine that reads the clock that runs ahead."""

    async def pipelined(self, commands: Sequence[Sequence[str | bytes | float]]) -> list[Any]:
        if ("TIME",) not in commands:
            return await super().pipelined(commands)
        *answers, ahead = await super().pipelined([*commands, ("GET", KEY)])

        def moved(moment: tuple[int, int]) -> tuple[int, int]:
            return divmod(moment[0] * 1_000_000 + moment[1] + int(ahead or 0), 1_000_000)

        rows = zip(commands, answers, strict=True)
        return [moved(answer) if command == ("TIME",) else answer for command, answer in rows]
