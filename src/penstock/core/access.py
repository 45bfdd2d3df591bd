"""Who may do what: scopes, callers, and the entries of `API_KEYS`.

An entry is `secret`, `name:secret` or `name:secret:scopes`, with scopes joined by `+`. The name is that of the caller
and of its tenant; several entries with one name are one caller, so that a key can be replaced without a gap.
"""

import hashlib
import re
from collections.abc import Iterable
from typing import Literal, get_args

from msgspec import Struct

Scope = Literal["read", "submit", "operate", "admin"]

SCOPES: tuple[Scope, ...] = get_args(Scope)
"""`read` shows what the tenant has, `submit` makes and changes it. `operate` is for queues, workers, models and the
tasks of other tenants, `admin` for keys and tenants. None of them includes another."""

ALL_SCOPES = frozenset(SCOPES)
USUAL_SCOPES: frozenset[Scope] = frozenset({"read", "submit"})
"""Those of a key that names none."""

TENANT = "default"
"""The tenant of keys without a name."""

NAME = re.compile(r"(?![Nn][Uu][Ll][Ll]$)[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
"""The name of a tenant or a caller: it is part of keys in Redis and in the storage, and shows in logs. The word null
means in a query that there is none."""

NAME_RULE = "letters, digits, `_`, `.` and `-`, 64 at most, of which the first is a letter or a digit; null is no name"
"""What `NAME` asks for, in words."""


class Caller(Struct, frozen=True):
    """Who sends a request: the name of an API key, or the first 12 hex digits of its digest; its tenant; its scopes.

    An operator may act in another tenant: `tenant` is that one then, and `home` its own.
    """

    id: str
    tenant: str = TENANT
    scopes: frozenset[Scope] = USUAL_SCOPES
    home: str | None = None


class KeyEntry(Struct, frozen=True):
    """One entry of `API_KEYS`, as it is written: `name` is '' and `scopes` None where the entry has none."""

    name: str
    secret: str
    scopes: frozenset[Scope] | None = None

    @property
    def digest(self) -> bytes:
        """The SHA-256 of the secret, in 32 bytes."""
        return hashlib.sha256(self.secret.encode()).digest()

    @property
    def caller_id(self) -> str:
        """The name of the entry, else the first 12 hex digits of its digest."""
        return self.name or self.digest.hex()[:12]


def scopes_of(text: str) -> frozenset[Scope] | None:
    """Return the scopes that `text` lists, such as `read+submit`; None when it has a word that is no scope."""
    words = text.split("+")
    return frozenset(scope for scope in SCOPES if scope in words) if ALL_SCOPES.issuperset(words) else None


def text_of(scopes: Iterable[Scope]) -> str:
    """Return scopes as entries have them: `read+submit`, always in the order of `SCOPES`."""
    given = set(scopes)
    return "+".join(scope for scope in SCOPES if scope in given)


def entry_of(text: str) -> KeyEntry:
    """Return an entry as it is read. A third part counts as scopes only if every word of it is one.

    Nothing is refused here: the rules of the settings say which names and secrets are good ones.
    """
    name, _, secret = text.rpartition(":")
    named, _, before = name.rpartition(":")
    scopes = scopes_of(secret) if named else None
    return KeyEntry(name, secret) if scopes is None else KeyEntry(named, before, scopes)


def callers_of(entries: Iterable[str]) -> list[tuple[bytes, Caller]]:
    """Return the digest of each key, and its caller.

    Where all keys belong to one caller, it has all scopes unless they say otherwise, since somebody has to operate the
    server.
    """
    read = [entry_of(entry) for entry in entries]
    usual = USUAL_SCOPES if len({entry.caller_id for entry in read}) > 1 else ALL_SCOPES
    return [
        (entry.digest, Caller(entry.caller_id, entry.name or TENANT, usual if entry.scopes is None else entry.scopes))
        for entry in read
    ]
