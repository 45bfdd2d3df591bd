"""The managed keys, the secret of task tokens and what tells of new quotas, as this process holds them in memory: no
request asks Redis."""

import asyncio
import hmac
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

from msgspec import Struct

from penstock.core.access import Caller
from penstock.core.access_keys import presented_key
from penstock.core.task_tokens import TaskTokens
from penstock.errors import NotReady, StoreUnavailable
from penstock.intake.quotas import QuotaTable
from penstock.store import AccessKeyStore, KnownKeys

LOOK_S = 3.0
"""The keys are compared with Redis this often although no change was heard of: the message of one may be lost."""

USED_EVERY_MS = 60_000
"""How exact Redis knows when a key was last used."""


class KnownKey(Struct, frozen=True):
    """A key that works until this moment (ms since 1970), and whom it lets in."""

    digest: bytes
    until: float
    caller: Caller | None


NO_KEY = KnownKey(bytes(32), 0.0, None)
"""Stands for every unknown id: the check of a wrong key takes the same steps as that of a right one."""


class KeyTable:
    """Finds managed keys, and opens task tokens. While Redis is away, it goes by what it has read last."""

    def __init__(self, clock: Callable[[], float] = time.time, quotas: QuotaTable | None = None) -> None:
        """`quotas` hears of those that administrators set."""
        self._clock = clock
        self._quotas = quotas
        self._version: object = None
        self._keys: dict[str, KnownKey] = {}
        self._tokens: TaskTokens | None = None
        self.was_read = asyncio.Event()
        self._used: dict[str, int] = {}
        self._written: dict[str, int] = {}
        self._reading = asyncio.Lock()
        self._on_change: Callable[[], None] = _nobody

    def tenants(self) -> Counter[str]:
        """Return how many keys of each tenant work now."""
        now_ms = self._clock() * 1000
        return Counter(key.caller.tenant for key in self._keys.values() if key.caller and key.until > now_ms)

    def find(self, secret: bytes) -> Caller | None:
        """Return whom this key lets in; None for a key that is unknown, expired or revoked, and for any other text.

        Raises NotReady for a managed key before the first read.
        """
        given = presented_key(secret)
        if given is None:
            return None
        self.ensure_read()
        now_ms = int(self._clock() * 1000)
        known = self._keys.get(given.id, NO_KEY)
        if not hmac.compare_digest(known.digest, given.digest) or known.until <= now_ms:
            return None
        self._used[given.id] = now_ms
        return known.caller

    def find_by(self, key_id: str, is_it: Callable[[bytes], bool]) -> Caller | None:
        """Return whom the key of this id lets in, if `is_it` accepts its digest; None as `find` does.

        Raises NotReady before the first read.
        """
        self.ensure_read()
        now_ms = int(self._clock() * 1000)
        known = self._keys.get(key_id, NO_KEY)
        if not is_it(known.digest) or now_ms >= known.until:
            return None
        self._used[key_id] = now_ms
        return known.caller

    def tenant_of(self, token: str, task_id: str) -> str | None:
        """Return the tenant whose task of this id the token opens, or None. Raises NotReady before the first read."""
        return self.ensure_read().tenant_of(token, task_id, now_s=self._clock())

    def token(self, task_id: str, tenant: str, *, ttl_s: int) -> str:
        """Return a new token for a task of this tenant. Raises NotReady before the first read."""
        return self.ensure_read().write(task_id, tenant, expires_s=int(self._clock()) + ttl_s)

    def ensure_read(self) -> TaskTokens:
        """Return what tokens are made with. Raises NotReady before the first read."""
        if self._tokens is None:
            raise NotReady("the keys could not be read from Redis yet; try again", retry_after_s=1)
        return self._tokens

    def secret(self) -> bytes:
        """Return the random secret that all servers of an installation share. Raises NotReady before the first
        read."""
        return self.ensure_read().secret

    def take(self, known: KnownKeys) -> None:
        """Go by these keys from now on."""
        self._version = known.version
        self._tokens = known.tokens
        if self._quotas is not None:
            self._quotas.take(known.quotas)
        self.was_read.set()
        self._keys = {
            key.id: KnownKey(bytes.fromhex(key.digest), key.until, Caller(key.name, key.tenant, frozenset(key.scopes)))
            for key in known.keys
            if key.revoked is None
        }
        self._used = {key_id: at for key_id, at in self._used.items() if key_id in self._keys}
        self._written = {key_id: at for key_id, at in self._written.items() if key_id in self._keys}

    async def read(self, store: AccessKeyStore) -> bool:
        """Read what has changed in Redis, tell whom `run` names, and return whether anything has changed. Raises
        StoreUnavailable."""
        async with self._reading:  # an earlier read that ends later would bring back what was revoked meanwhile
            if self._tokens is not None and await store.version() == self._version:
                return False
            self.take(await store.known())
            self._on_change()
            return True

    async def run(self, store: AccessKeyStore, on_change: Callable[[], None]) -> None:
        """Keep the keys up to date until canceled, and call `on_change` after each change."""
        self._on_change = on_change
        await asyncio.gather(self._listen(store), self._look_again(store))

    async def note_used(self, store: AccessKeyStore) -> None:
        """Tell Redis of keys that were used a minute or more after it was told of them last. Raises
        StoreUnavailable."""
        due = {key: at for key, at in self._used.items() if at - self._written.get(key, 0) >= USED_EVERY_MS}
        await store.used(due)
        self._written |= due

    async def _listen(self, store: AccessKeyStore) -> None:
        async for _ in store.changes():
            with suppress(StoreUnavailable):
                await self.read(store)

    async def _look_again(self, store: AccessKeyStore) -> None:
        while True:
            with suppress(StoreUnavailable):
                await self.read(store)
                await self.note_used(store)
            await asyncio.sleep(LOOK_S)


def _nobody() -> None:
    """Tell nobody of a change: who wants to know says so with `KeyTable.run`."""
