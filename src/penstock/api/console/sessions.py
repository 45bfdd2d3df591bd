"""Sessions: how a browser without an API key is the caller of the key with which it logged in."""

import re
import time
from typing import cast

from litestar.datastructures import Cookie
from litestar.types import ASGIApp, Receive, Scope, Send
from msgspec import Struct

from penstock.api.http.auth import SESSION, ApiRequest, KeyRing
from penstock.api.http.scopes import is_let_in_by_url
from penstock.api.services import Services
from penstock.core.access import Caller
from penstock.core.sessions import SessionRecord, act_token, digest_of, new_token, record_of
from penstock.errors import Forbidden, Unauthorized

COOKIE = "penstock_session"
COOKIE_PATH = "/console"
ACT_TOKEN = b"x-act-token"
SAFE = ("GET", "HEAD", "OPTIONS")
ACTS = "/console/v1/"
_EMPTY = re.compile(rb"(?:^|&)[^=&]*=(?=&|$)")
"""A field of a form that was left empty, which a browser sends all the same."""
LOG_IN = "log in to the console"


class BrowserSession(Struct, frozen=True):
    """A session with which a request came. `caller()` is None from the moment when it or its key has ended."""

    token: bytes
    record: SessionRecord
    keys: KeyRing

    def caller(self) -> Caller | None:
        """Return whom the session's key lets in now. Raises NotReady before the keys could be read from Redis."""
        if self.record.expires <= time.time():
            return None
        return self.keys.find_by(self.record.key, lambda digest: self.record.proves(self.token, digest))

    @property
    def act_token(self) -> str:
        """What its pages send with every act."""
        return act_token(self.token)


def open_session(app: ASGIApp) -> ASGIApp:
    """Find the session of a request, which `require_key` then takes for its key; every act needs the token of its page.

    A route that is let in by its URL needs none. Raises Unauthorized, Forbidden, StoreUnavailable.
    """

    async def opened(scope: Scope, receive: Receive, send: Send) -> None:
        if not is_let_in_by_url(scope["route_handler"].opt):
            scope["state"][SESSION] = await _checked_session(scope)
        if not scope["path"].startswith(ACTS):
            scope["query_string"] = _EMPTY.sub(b"", scope["query_string"]).strip(b"&")
        await app(scope, receive, send)

    return opened


async def find_session(scope: Scope) -> BrowserSession | None:
    """Return the session that the cookies of a request name, if it and its key last. Raises NotReady,
    StoreUnavailable."""
    token, state = token_of(scope), scope["litestar_app"].state
    record = await state.services.home.sessions.find(digest_of(token)) if token else None
    session = record and BrowserSession(token, record, state.key_ring)
    return session if session and session.caller() else None


def session_of(request: ApiRequest) -> BrowserSession | None:
    """Return the session with which a request came; None on a page that needs none."""
    return cast("BrowserSession | None", request.scope["state"].get(SESSION))


async def log_in(secret: bytes, request: ApiRequest, services: Services) -> Cookie:
    """Open a session and return its cookie. Raises Unauthorized for a key that lets nobody in, NotReady."""
    if request.app.state.key_ring.find(secret) is None:
        raise Unauthorized("this is not an API key of this server, or it has ended")
    token, life_s = new_token(), services.settings.console.session_s
    record = record_of(token, secret, expires=time.time() + life_s)
    await services.home.sessions.open(digest_of(token), record)
    if before := token_of(request.scope):  # the browser forgets it now
        await services.home.sessions.end(digest_of(before))
    return _cookie(token.decode(), life_s, request)


async def log_out(request: ApiRequest, services: Services) -> Cookie:
    """End the session of a request, and return the cookie that takes the place of its own."""
    if token := token_of(request.scope):
        await services.home.sessions.end(digest_of(token))
    return _cookie("", 0, request)


def token_of(scope: Scope) -> bytes:
    """Return the token of the session that the cookies of a request have; b'' where they have none."""
    cookies: bytes = scope["state"]["headers"].get(b"cookie", b"")
    pairs = (pair.strip().partition(b"=") for pair in cookies.split(b";"))
    return next((value for name, _, value in pairs if name == COOKIE.encode()), b"")


async def _checked_session(scope: Scope) -> BrowserSession:
    session = await find_session(scope)
    if session is None:
        raise Unauthorized(LOG_IN)
    if scope.get("method") not in SAFE and scope["state"]["headers"].get(ACT_TOKEN) != session.act_token.encode():
        raise Forbidden("the page is of another session: load it again")
    return session


def _cookie(value: str, life_s: int, request: ApiRequest) -> Cookie:
    base = request.base_url
    return Cookie(
        key=COOKIE,
        value=value,
        max_age=life_s,
        path=base.path.rstrip("/") + COOKIE_PATH,
        secure=base.scheme == "https",
        httponly=True,
        samesite="strict",
    )
