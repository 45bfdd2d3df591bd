"""Installation: the identity by which the storage tells whose objects it holds, and which objects have records.

Each shard has one of its own, for the objects of its tenants: a single node may be restored from an older save.
"""

import secrets
from collections.abc import AsyncIterator, Sequence

import msgspec
from msgspec import Struct

from penstock.store.engine import Engine
from penstock.store.keys import shard_of

PAGE = 500
"""Records that one round trip reads."""


class Identity(Struct, frozen=True, kw_only=True):
    """What Redis holds of an installation: an id that is made once, the moment (ms) when it was made, and the beat, a
    word that is replaced every hour in Redis and in the storage; while it is being replaced, `next` has the new one. A
    Redis that was emptied makes another id; one that was restored from a backup has an earlier beat."""

    id: str
    created: int
    beat: str
    next: str | None = None

    @property
    def beats(self) -> tuple[str | None, ...]:
        """The beats that the storage may have: it is given the next one a moment before Redis."""
        return self.beat, self.next


class Installation:
    """The installation. Every method raises StoreUnavailable when Redis cannot be reached; each may be repeated."""

    def __init__(self, engine: Engine, *, shard: int = 0, of: int = 1) -> None:
        self._engine = engine
        self._keys = engine.keys
        self.shard = shard
        self._of = of

    def owns(self, key: str) -> bool:
        """Whether an object of the storage is of a tenant of this shard, by its key."""
        return self._of == 1 or shard_of(owner_of(key)[1], self._of) == self.shard

    async def ensure_identity(self) -> Identity:
        """Return the identity; the first call of any process makes it."""
        made: dict[str, str | int] = {"id": _word(), "created": await self.now_ms(), "beat": _word()}
        await self._engine.write([("HSETNX", self._keys.installation, name, value) for name, value in made.items()])
        identity = await self.identity()
        if identity is None:
            raise RuntimeError("what was just written down is not there")
        return identity

    async def identity(self) -> Identity | None:
        """The identity; None when no server has made one since Redis was emptied."""
        (row,) = await self._engine.pipelined([("HGETALL", self._keys.installation)])
        values = {name.decode(): value.decode() for name, value in row.items()}
        if not values.keys() >= {"id", "created", "beat"}:
            return None
        return msgspec.convert(values, Identity, strict=False)

    async def next_beat(self) -> str:
        """The word that replaces the beat. It is the same for all processes until `beat_moved`."""
        _, word = await self._engine.write(
            [
                ("HSETNX", self._keys.installation, "next", _word()),
                ("HGET", self._keys.installation, "next"),
            ]
        )
        return str(word.decode())

    async def beat_moved(self, word: str) -> None:
        """Note that the storage has this word: it is the beat from now on."""
        await self._engine.write(
            [("HSET", self._keys.installation, "beat", word), ("HDEL", self._keys.installation, "next")]
        )

    async def now_ms(self) -> int:
        """The time by the clock of Redis."""
        ((seconds, micros),) = await self._engine.pipelined([("TIME",)])
        return int(seconds * 1000 + micros // 1000)

    async def take_turn(self, pause_s: int) -> bool:
        """Whether this process is the one that moves the beat and looks for orphans; one process does in that time."""
        (taken,) = await self._engine.write([("SET", self._keys.orphan_turn, "", "NX", "EX", pause_s)])
        return taken is not None

    async def unknown(self, keys: Sequence[str]) -> list[str]:
        """Those of these keys that no record has and that are neither awaited nor condemned. They include results that
        only records of other tasks show: see `shown`."""
        found = []
        for at in range(0, len(keys), PAGE):
            part = keys[at : at + PAGE]
            commands = [command for key in part for command in self._questions(key)]
            answers = iter(await self._engine.pipelined(commands))
            found += [key for key in part if not _is_known(key, [next(answers) for _ in self._questions(key)])]
        return found

    async def shown(self) -> set[str]:
        """The tasks whose result the record of another task shows, since equal tasks share one run."""
        origins: set[str] = set()
        async for ids in self._ended():
            rows = await self._engine.pipelined([("HGET", self._keys.task(task_id), "origin") for task_id in ids])
            origins |= {row.decode() for row in rows if row}
        return origins

    async def _ended(self) -> AsyncIterator[Sequence[str]]:
        """Yields all ended tasks, in pages; a task that is added or deleted meanwhile may be missing."""
        cursor: int | bytes = 0
        while True:
            (cursor, pairs), *_ = await self._engine.pipelined(
                [("ZSCAN", self._keys.finals, int(cursor), "COUNT", PAGE)]
            )
            yield [name.decode() for name, _ in pairs]
            if int(cursor) == 0:
                return

    def _questions(self, key: str) -> list[tuple[str | int, ...]]:
        """The commands that tell whether a key is known; the one about its record comes first."""
        kind, _, task_id = owner_of(key)
        record: dict[str, tuple[str | int, ...]] = {
            "inputs": ("HGET", self._keys.task(task_id), "input"),
            "results": ("EXISTS", self._keys.task(task_id)),
            "uploads": ("EXISTS", self._keys.upload(task_id)),
            "batches": ("EXISTS", self._keys.batch(task_id)),
        }
        entries = [key, f"{key.rpartition('/')[0]}/"]
        condemned = [*entries, *(f"again {entry}" for entry in entries)]
        return [
            record[kind],
            *(("ZSCORE", self._keys.awaited, entry) for entry in entries),
            *(("ZSCORE", self._keys.condemned, entry) for entry in condemned),
        ]


def _word() -> str:
    return secrets.token_hex(16)


def owner_of(key: str) -> tuple[str, str, str]:
    """Split a storage key into its kind, its tenant and the id of its task, upload or batch."""
    kind, tenant, name, *_ = key.split("/")
    return kind, tenant, name.partition("-")[0] if kind == "inputs" else name


def _is_known(key: str, answers: Sequence[bytes | int | None]) -> bool:
    record, *sets = answers
    if any(score is not None for score in sets):
        return True
    if key.startswith("inputs/"):  # the record says what follows the id in the key of its input, or in their prefix
        kind, tenant, task_id = owner_of(key)
        own = f"{kind}/{tenant}/{task_id}{'' if record is None else bytes(record).decode()}"
        return record is not None and (key.startswith(own) if own.endswith("/") else key == own)
    return bool(record)
