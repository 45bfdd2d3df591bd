"""AccessKeyStore: the managed keys, when each was last used, and what task tokens are signed with."""

import secrets
from collections.abc import AsyncIterator, Iterator, Mapping

import msgspec
from loguru import logger
from msgspec import Struct, field
from msgspec.structs import replace

from penstock.core.access_keys import AccessKey, PresentedKey
from penstock.core.quotas import OwnQuotas
from penstock.core.task_tokens import TaskTokens
from penstock.errors import AccessKeyNotFound, AccessKeyReplaced, InvalidRequest
from penstock.store.connection import listen
from penstock.store.engine import Command, Engine

MAX_KEYS = 10_000
"""Every API process holds all of them in memory."""

KEPT_MS = 90 * 86_400_000
"""How long a key is listed after its end, so that an audit can name it."""

NOTED_TOGETHER = 1000
"""Keys whose last use one script writes down."""

SECRET_BYTES, GENERATION_BYTES = 32, 4


class KnownKeys(Struct, frozen=True):
    """All that an API process must know to let requests in. `version` is another one after every change; `quotas` are
    those that administrators have set, by tenant."""

    version: tuple[bytes | None, bytes | None]
    keys: tuple[AccessKey, ...]
    tokens: TaskTokens
    quotas: dict[str, OwnQuotas] = field(default_factory=dict)


class AccessKeyStore:
    """Managed keys. Every method raises StoreUnavailable when Redis cannot be reached or refuses writes; each may be
    repeated."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._keys = engine.keys

    async def version(self) -> tuple[bytes | None, bytes | None]:
        """Return a value that is another one after every change, and in a Redis that was emptied."""
        changed, secret = await self._engine.pipelined(
            [("GET", self._keys.access_keys_version), ("HGET", self._keys.tokens, "secret")]
        )
        return changed, secret

    async def known(self) -> KnownKeys:
        """Return what lets requests in; the first call of any process makes the secret of the tokens."""
        commands: list[Command] = [
            ("GET", self._keys.access_keys_version),  # first: a change during the read is then read once more
            ("HGETALL", self._keys.access_keys),
            ("HGETALL", self._keys.token_generations),
            ("HGET", self._keys.tokens, "secret"),
            ("HGETALL", self._keys.quotas),
        ]
        version, rows, generations, secret, quotas = await self._engine.pipelined(commands)
        if secret is None:
            await self._engine.write([("HSETNX", self._keys.tokens, "secret", secrets.token_hex(SECRET_BYTES))])
            return await self.known()
        numbers = {tenant.decode(errors="replace"): _generation(word) for tenant, word in generations.items()}
        return KnownKeys(
            (version, secret), tuple(_readable(rows)), TaskTokens(secret, numbers), dict(_own_quotas(quotas))
        )

    async def listed(self) -> list[tuple[AccessKey, int | None]]:
        """Return every key, the newest first, each with the ms when it was last used; None for one that never was."""
        rows, used = await self._engine.pipelined(
            [("HGETALL", self._keys.access_keys), ("ZRANGE", self._keys.access_keys_used, 0, -1, "WITHSCORES")]
        )
        times = dict(zip(used[::2], map(int, map(float, used[1::2])), strict=True))
        keys = sorted(_readable(rows), key=lambda key: (key.created, key.id), reverse=True)
        return [(key, times.get(key.id.encode())) for key in keys]

    async def last_used(self, key_id: str) -> int | None:
        """Return the ms when this key was last used, or None."""
        (at,) = await self._engine.pipelined([("ZSCORE", self._keys.access_keys_used, key_id)])
        return None if at is None else int(float(at))

    async def create(self, key: AccessKey) -> None:
        """Add a key. Raises InvalidRequest when there are MAX_KEYS that work. Keys that have ended long ago are
        forgotten."""
        await self._make_room(key.created)
        await self._put(key, before=b"")

    async def rotate(
        self, key_id: str, new: PresentedKey, *, by: str, at: int, overlap_ms: int
    ) -> tuple[AccessKey, AccessKey]:
        """Let `new` take the place of a key, which works for `overlap_ms` more; return both as they are then.

        Raises AccessKeyNotFound, also for a key that has ended, and AccessKeyReplaced.
        """
        while True:
            old, row = await self._read(key_id)
            if old.until <= at:
                raise AccessKeyNotFound("this key has ended; make a new one")
            if old.replaced_by not in (None, new.id):
                raise AccessKeyReplaced(f"this key was replaced by {old.replaced_by}; rotate that one")
            successor = old.successor(new, by=by, at=at)
            if old.replaced_by == new.id:  # by this call, when the first answer was lost
                return old, successor
            replaced = replace(old, expires=int(min(at + overlap_ms, old.until)), replaced_by=new.id)
            if await self._put(replaced, before=row, other=successor):
                return replaced, successor

    async def revoke(self, key_id: str, *, at: int) -> AccessKey:
        """Let a key work no longer, and return it as it is then. Raises AccessKeyNotFound."""
        while True:
            key, row = await self._read(key_id)
            if key.revoked is not None:
                return key
            revoked = replace(key, revoked=at)
            if await self._put(revoked, before=row):
                return revoked

    async def get(self, key_id: str) -> AccessKey:
        """Return a key. Raises AccessKeyNotFound."""
        return (await self._read(key_id))[0]

    async def revoke_tokens(self, tenant: str) -> None:
        """End all task tokens that this tenant was given so far."""
        generation = secrets.token_bytes(GENERATION_BYTES)
        await self._engine.write(
            [
                ("HSET", self._keys.token_generations, tenant, generation),
                ("SET", self._keys.access_keys_version, _version()),
                self._engine.publication(self._keys.access_keys_changed, ""),
            ]
        )

    async def used(self, times: Mapping[str, int]) -> None:
        """Note when keys were last used, in ms; of several API processes the latest moment stays."""
        notes: list[Command] = [("ZADD", self._keys.access_keys_used, "GT", at, one) for one, at in times.items()]
        for start in range(0, len(notes), NOTED_TOGETHER):
            await self._engine.write(notes[start : start + NOTED_TOGETHER])

    async def now_ms(self) -> int:
        """The time by the clock of Redis."""
        ((seconds, micros),) = await self._engine.pipelined([("TIME",)])
        return int(seconds * 1000 + micros // 1000)

    async def changes(self) -> AsyncIterator[None]:
        """Yields whenever keys or tokens have changed, or may have changed unheard."""
        async for _ in listen(self._engine.client, self._keys.access_keys_changed):
            yield

    async def _read(self, key_id: str) -> tuple[AccessKey, bytes]:
        (row,) = await self._engine.pipelined([("HGET", self._keys.access_keys, key_id)])
        for key in _readable({key_id.encode(): row} if row else {}):
            return key, row
        raise AccessKeyNotFound("there is no such key; GET /v1/keys lists them")

    async def _put(self, key: AccessKey, *, before: bytes, other: AccessKey | None = None) -> bool:
        record = msgspec.json.encode(key)
        is_written = await self._engine.run(
            "key_put",
            id=key.id,
            before=before,
            record=record,
            other=other.id if other else "",
            other_record=msgspec.json.encode(other) if other else "",
            version=_version(),
        )
        return bool(is_written)

    async def _make_room(self, now: int) -> None:
        rows = await self.listed()
        if sum(key.until > now for key, _ in rows) >= MAX_KEYS:
            raise InvalidRequest(f"there are {MAX_KEYS:,} keys; revoke one first")
        gone = [key.id for key, _ in rows if key.until + KEPT_MS < now]
        if gone:
            await self._engine.pipelined(
                [("HDEL", self._keys.access_keys, *gone), ("ZREM", self._keys.access_keys_used, *gone)]
            )


def _version() -> str:
    # Random, so that a Redis which was restored from a backup never comes back to a version that it had before.
    return secrets.token_hex(8)


def _generation(word: bytes) -> int:
    """The number of a generation. Any word has one, so that a damaged one ends the tokens of its tenant only."""
    return int.from_bytes(word[:GENERATION_BYTES])


def _readable(rows: Mapping[bytes, bytes]) -> Iterator[AccessKey]:
    for key_id, row in rows.items():
        name = key_id.decode(errors="replace")
        try:
            key = msgspec.json.decode(row, type=AccessKey)
        except msgspec.MsgspecError as error:
            logger.bind(key=name, reason=str(error)).error("a key cannot be read")
            continue
        if key.id == name:
            yield key
        else:
            logger.bind(key=name, reason="it is the record of another key").error("a key cannot be read")


def _own_quotas(rows: Mapping[bytes, bytes]) -> Iterator[tuple[str, OwnQuotas]]:
    for tenant, row in rows.items():
        name = tenant.decode(errors="replace")
        try:
            yield name, msgspec.json.decode(row, type=OwnQuotas)
        except msgspec.MsgspecError as error:
            logger.bind(tenant=name, reason=str(error)).error("the quotas of a tenant cannot be read")
