"""Who may come in, and with what: API keys, the content type, checked before a body is read."""

import hashlib
import hmac
from collections.abc import Callable, Iterable

from litestar import Request
from litestar.datastructures import URL, State
from litestar.types import ASGIApp, Receive, Scope, Send
from msgspec import Struct

from penstock.core.task import TENANT
from penstock.errors import ConfigurationError, Unauthorized, UnsupportedMediaType

SCHEMES = (b"bearer", b"token")
"""Of `Authorization`; the second is what older clients of Replicate send."""

BY_URL = {"let_in_by": "url"}
"""Option of a handler that needs no key: its URL has been given out to be used by whoever has it."""


class Caller(Struct, frozen=True):
    """Whose key it was: the name of the key, or the first 12 hex digits of its digest."""

    id: str
    tenant: str = TENANT


class ApiRequest(Request[None, Caller, State]):
    """A request that has passed `require_key`: `auth` is its caller."""

    @property
    def base_url(self) -> URL:
        """The URL under which the client reaches the server, as `origins.Origins` has worked it out."""
        return URL(f"{self.scope['state']['base_url']}/")


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


def guard(check: Callable[[Scope], None]) -> Callable[[ASGIApp], ASGIApp]:
    """`check` as a middleware. Litestar's own guards are each given a copy of the handler, made anew at every request,
    which takes several times as long as any check here."""

    def wrap(app: ASGIApp) -> ASGIApp:
        async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
            check(scope)
            await app(scope, receive, send)

        return guarded

    return wrap


@guard
def require_key(scope: Scope) -> None:
    """Every route below /v1 but those `BY_URL`: a known key, in `X-API-Key` or as bearer token. Sets `request.auth`."""
    if BY_URL.items() <= scope["route_handler"].opt.items():
        return
    caller = scope["litestar_app"].state.key_ring.find(_secret(scope))
    if caller is None:
        raise Unauthorized(
            "send a known API key as X-API-Key, or as Authorization: Bearer",
            headers={"WWW-Authenticate": "Bearer"},
        )
    scope["auth"] = caller


@guard
def require_json(scope: Scope) -> None:
    """Routes with a body: it is declared to be JSON."""
    declared = (_header(scope, b"content-type") or b"").partition(b";")[0].strip().lower()
    if declared != b"application/json":
        raise UnsupportedMediaType("send the body as Content-Type: application/json")


def _secret(scope: Scope) -> bytes:
    key = _header(scope, b"x-api-key")
    if key is None:
        scheme, _, credentials = (_header(scope, b"authorization") or b"").partition(b" ")
        key = credentials.strip() if scheme.lower() in SCHEMES else b""
    return key


def _header(scope: Scope, name: bytes) -> bytes | None:
    """As it came over the wire; the first of several."""
    return next((value for given, value in scope["headers"] if given == name), None)
