"""Guards that run before a body is read: the API key of a request, and its content type."""

import hashlib
import hmac
from collections.abc import Callable, Iterable

from litestar import Request
from litestar.datastructures import URL, State
from litestar.types import ASGIApp, Receive, Scope, Send
from msgspec.structs import replace

from penstock.core.access import TENANT, Caller, callers_of
from penstock.errors import ConfigurationError, Unauthorized, UnsupportedMediaType

SCHEMES = (b"bearer", b"token")
"""Schemes of `Authorization`; older clients of Replicate send the second."""

BY_URL = {"let_in_by": "url"}
"""Option of a handler that needs no key, because its URL has a token: whoever has the URL may use it."""


class ApiRequest(Request[None, Caller, State]):
    """A request that has passed `require_key`: `auth` is its caller."""

    @property
    def base_url(self) -> URL:
        """The URL under which the client reaches the server, as `origins.Origins` has worked it out."""
        return URL(f"{self.scope['state']['base_url']}/")


class KeyRing:
    """The known keys, held as digests only. Two keys may have one name, so that a key can be replaced without a gap."""

    def __init__(self, keys: Iterable[str]) -> None:
        """Raises ConfigurationError when `keys` is empty."""
        self._callers = [(digest, replace(caller, tenant=TENANT)) for digest, caller in callers_of(keys)]
        if not self._callers:
            raise ConfigurationError("api.keys: set at least one key, for instance API_KEYS=me:$(openssl rand -hex 24)")

    def digest(self) -> bytes:
        """Return a secret that all servers with the same keys share, in whatever order they list them."""
        return hashlib.sha256(b"".join(sorted(digest for digest, _ in self._callers))).digest()

    def find(self, secret: bytes) -> Caller | None:
        """Return the caller with this secret, or None. The time it takes says nothing about the known secrets."""
        given = hashlib.sha256(secret).digest()
        found = None
        for digest, caller in self._callers:  # to the end, whether or not one matches
            if hmac.compare_digest(digest, given):
                found = caller
        return found


def guard(check: Callable[[Scope], None]) -> Callable[[ASGIApp], ASGIApp]:
    """Make `check` a middleware.

    Litestar's own guards each get a new copy of the handler at every request, which takes several times as long as any
    check here.
    """

    def wrap(app: ASGIApp) -> ASGIApp:
        async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
            check(scope)
            await app(scope, receive, send)

        return guarded

    return wrap


@guard
def require_key(scope: Scope) -> None:
    """Require a known key, in `X-API-Key` or as bearer token, unless the route is `BY_URL`; sets `request.auth`.

    Raises Unauthorized.
    """
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
    """Require a body that is declared as JSON. Raises UnsupportedMediaType."""
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
    return next((value for given, value in scope["headers"] if given == name), None)
