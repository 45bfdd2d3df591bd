"""Who may come in, and with what: API keys, the content type, checked before a body is read."""

import hashlib
import hmac
from collections.abc import Iterable
from typing import Any

from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler
from msgspec import Struct

from penstock.errors import ConfigurationError, InvalidRequest, Unauthorized, UnsupportedMediaType
from penstock.task import TENANT

METADATA = "metadata."
"""In front of a key of metadata, as the name of a parameter."""

SCHEMES = ("bearer", "token")
"""Of `Authorization`; the second is what older clients of Replicate send."""

Connection = ASGIConnection[Any, Any, Any, Any]

BY_URL = {"let_in_by": "url"}
"""Option of a handler that needs no key: its URL has been given out to be used by whoever has it."""


class Caller(Struct, frozen=True):
    """Whose key it was: the name of the key, or the first 12 hex digits of its digest."""

    id: str
    tenant: str = TENANT


class KeyRing:
    """The known keys, held as digests only. Two secrets may have one name: so a key is changed without a gap."""

    def __init__(self, keys: Iterable[str]) -> None:
        """Raises ConfigurationError when there is no key."""
        self._callers: list[tuple[bytes, Caller]] = []
        for key in keys:
            name, _, secret = key.rpartition(":")
            digest = hashlib.sha256(secret.encode())
            self._callers.append((digest.digest(), Caller(name or digest.hexdigest()[:12])))
        if not self._callers:
            raise ConfigurationError("api.keys: set at least one key, for instance API_KEYS=me:$(openssl rand -hex 24)")

    def digest(self) -> bytes:
        """Of all keys, in whatever order: a secret that all servers with the same keys share."""
        return hashlib.sha256(b"".join(sorted(digest for digest, _ in self._callers))).digest()

    def find(self, secret: bytes) -> Caller | None:
        """The caller with this secret. Takes as long for a wrong one as for any right one."""
        given = hashlib.sha256(secret).digest()
        found = None
        for digest, caller in self._callers:
            if hmac.compare_digest(digest, given):
                found = caller
        return found


async def require_key(connection: Connection, handler: BaseRouteHandler) -> None:
    """Every route below /v1 but those `BY_URL`: a known key, in `X-API-Key` or as bearer token. Sets `request.auth`."""
    if BY_URL.items() <= handler.opt.items():
        return
    caller = connection.app.state.key_ring.find(_secret(connection))
    if caller is None:
        raise Unauthorized(
            "send a known API key as X-API-Key, or as Authorization: Bearer",
            headers={"WWW-Authenticate": "Bearer"},
        )
    connection.scope["auth"] = caller


async def require_json(connection: Connection, _: BaseRouteHandler) -> None:
    """Routes with a body: it is declared to be JSON."""
    declared = connection.headers.get("content-type", "").partition(";")[0].strip().lower()
    if declared != "application/json":
        raise UnsupportedMediaType("send the body as Content-Type: application/json")


async def refuse_null(connection: Connection, _: BaseRouteHandler) -> None:
    """Routes with an optional parameter that is no string: the word null would count as leaving it out. It can be the
    value of a member of a task's metadata."""
    for name, value in connection.query_params.multi_items():
        if value.lower() == "null" and not name.startswith(METADATA):
            raise InvalidRequest("leave the parameter out, or give it a value", param=name)


def _secret(connection: Connection) -> bytes:
    key = connection.headers.get("x-api-key")
    if key is None:
        scheme, _, credentials = connection.headers.get("authorization", "").partition(" ")
        key = credentials.strip() if scheme.lower() in SCHEMES else ""
    return key.encode("latin-1")  # as it came over the wire
