"""The guard that runs before a body is read: the API key of a request."""

import hashlib
import hmac
from collections import Counter
from collections.abc import Callable, Iterable
from urllib.parse import parse_qs

from litestar import Request
from litestar.datastructures import URL, State
from litestar.types import ASGIApp, Receive, Scope, Send
from loguru import logger

from penstock.api.http.key_table import KeyTable
from penstock.api.http.scopes import BY_TOKEN, SCOPE, is_let_in_by_url, refusal_of
from penstock.core.access import ALL_SCOPES, USUAL_SCOPES, Caller, callers_of, text_of
from penstock.errors import ConfigurationError, Unauthorized
from penstock.settings import LimitSettings

SCHEMES = (b"bearer", b"token")
"""Schemes of `Authorization`; older clients of Replicate send the second."""

HOLDER = "task-token"
"""The name of every caller who comes with a token."""

UNKNOWN_KEY = "send a known API key as X-API-Key, or as Authorization: Bearer"

NOT_LET_IN = (
    "the token in this URL has ended, or is not that of this task; a submit that is repeated with its "
    "client_request_id and links.token gives a new one"
)

SESSION = "session"
"""Where the state of a request has the session of the console with which it came; its `caller()` is asked again as long
as the request lasts."""


class ApiRequest(Request[None, Caller, State]):
    """A request that has passed `require_key`."""

    @property
    def auth(self) -> Caller:
        """The caller whose key, session or token came with the request."""
        caller: Caller = self.scope["auth"]
        return caller

    @property
    def base_url(self) -> URL:
        """The URL under which the client reaches the server, as `origins.Origins` has worked it out."""
        return URL(f"{self.scope['state']['base_url']}/")

    @property
    def limits(self) -> LimitSettings:
        """The limits on what clients send."""
        limits: LimitSettings = self.scope["litestar_app"].state.services.settings.limits
        return limits


class KeyRing:
    """The known keys, held as digests only. Two keys may have one name, so that a key can be replaced without a gap."""

    def __init__(self, keys: Iterable[str], managed: KeyTable) -> None:
        """`keys` are those of the settings. Raises ConfigurationError when there is none."""
        self._managed = managed
        self._callers = callers_of(keys)
        if not self._callers:
            raise ConfigurationError("api.keys: set at least one key, for instance API_KEYS=me:$(openssl rand -hex 24)")

    def log(self) -> None:
        """Say in the log whose each key is, and what it may do; warn where none may operate the server or make keys."""
        for caller in dict.fromkeys(caller for _, caller in self._callers):
            scopes = text_of(caller.scopes)
            logger.bind(key=caller.id, tenant=caller.tenant, scopes=scopes).info("API key")
        nobodys = ALL_SCOPES - USUAL_SCOPES - {scope for _, caller in self._callers for scope in caller.scopes}
        if nobodys:  # as after an upgrade, where all keys did all, or after a second name beside a lone key
            told = "no entry of API_KEYS has these scopes; name them in one: name:secret:read+submit+operate+admin"
            logger.bind(scopes=text_of(nobodys)).warning(told)

    def tenants(self) -> Counter[str]:
        """Return how many keys of each tenant work now."""
        return self._managed.tenants() + Counter(caller.tenant for _, caller in self._callers)

    def find(self, secret: bytes) -> Caller | None:
        """Return the caller with this secret, or None. The time it takes says nothing about the known secrets.

        Raises NotReady for a managed key that comes before the keys could be read from Redis.
        """
        given = hashlib.sha256(secret).digest()
        found = None
        for digest, caller in self._callers:  # to the end, whether or not one matches
            if hmac.compare_digest(digest, given):
                found = caller
        return found or self._managed.find(secret)

    def find_by(self, key_id: str, is_it: Callable[[bytes], bool]) -> Caller | None:
        """Return the caller of the key whose digest `is_it` accepts: one of the settings, or the managed one of this
        id. Raises NotReady for a managed key that comes before the keys could be read from Redis.
        """
        found = next((caller for digest, caller in self._callers if is_it(digest)), None)
        return found or (self._managed.find_by(key_id, is_it) if key_id else None)


def require_key(app: ASGIApp) -> ASGIApp:
    """Require a known key, in `X-API-Key` or as bearer token, with the scope of the route, unless that is let in by its
    URL; sets `request.auth`. A route that is `BY_TOKEN` is open to a token of its task too.

    Raises Unauthorized, with the same words for an unknown, an expired and a revoked key; RateLimited; QuotaExceeded;
    Forbidden; NotReady; StoreUnavailable.
    """

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        opt, state = scope["route_handler"].opt, scope["litestar_app"].state
        needed = opt.get(SCOPE)
        if needed is None and is_let_in_by_url(opt):
            await app(scope, receive, send)
            return
        caller = _caller_of(scope, state)
        limits = state.tenant_limits
        per_minute = limits.enter(caller.tenant)
        try:
            if per_minute and not scope["state"]["task_token"]:  # who comes with a token has no key
                quotas = state.services.shards.of(caller.tenant).quotas
                scope["state"]["rate"] = await limits.count(caller.tenant, per_minute, quotas)
            if needed is not None and needed not in caller.scopes:
                raise refusal_of(caller, needed)
            scope["auth"] = caller
            await app(scope, receive, send)
        finally:
            limits.exit(caller.tenant)

    return guarded


def is_let_in(scope: Scope) -> bool:
    """Return whether the key or the token of a request that was let in still works."""
    secret = _secret(scope)
    return (scope["litestar_app"].state.key_ring.find(secret) if secret else _holder(scope)) is not None


def _caller_of(scope: Scope, state: State) -> Caller:
    secret = _secret(scope)
    caller: Caller | None = state.key_ring.find(secret) if secret else _holder(scope)
    if caller is None:
        detail = UNKNOWN_KEY if secret or not _token(scope) else NOT_LET_IN
        raise Unauthorized(detail, headers={"WWW-Authenticate": "Bearer"})
    return caller


def _holder(scope: Scope) -> Caller | None:
    """Whoever has a session of the console; or the token in the query, if it opens the task of the path: they may read,
    as its tenant."""
    session = scope["state"].get(SESSION)
    if session is not None:
        known: Caller | None = session.caller()
        return known
    token = _token(scope)
    if not token:
        return None
    tenant = scope["litestar_app"].state.key_table.tenant_of(token, scope["path_params"]["task_id"])
    if tenant is None:
        return None
    scope["state"]["task_token"] = token
    return Caller(HOLDER, tenant, frozenset({"read"}))


def _token(scope: Scope) -> str:
    """The token in the query, empty where the route takes none."""
    if not BY_TOKEN.items() <= scope["route_handler"].opt.items():
        return ""
    return parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]


def _secret(scope: Scope) -> bytes:
    headers: dict[bytes, bytes] = scope["state"]["headers"]
    key = headers.get(b"x-api-key", b"").strip()
    if not key:
        scheme, _, credentials = headers.get(b"authorization", b"").partition(b" ")
        key = credentials.strip() if scheme.lower() in SCHEMES else b""
    return key
