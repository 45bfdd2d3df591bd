"""Which pages of other origins may read an answer (CORS), and which may show it (Cross-Origin-Resource-Policy).

A page of `api.cors_origins` may do whatever its key may. Any other page may use the URLs that let in by themselves,
such as that of an upload or of a task with a token, and nothing else. No answer allows credentials: no page of another
origin reads what a browser was let in to by a cookie.
"""

import re
from collections.abc import Iterable, Mapping

from litestar.routes import BaseRoute, HTTPRoute
from msgspec import Struct

from penstock.api.http.auth import HOLDER
from penstock.api.http.headers import Headers
from penstock.api.http.scopes import BY_TOKEN, is_let_in_by_url
from penstock.core.access import Caller

KEY_HEADERS = ("X-API-Key", "Authorization")
REQUEST_HEADERS = (
    "Accept", "Accept-Language", "Baggage", "Cache-Control", "Cancel-After", "Content-Encoding", "Content-Language",
    "Content-Type", "Idempotency-Key", "If-Modified-Since", "If-None-Match", "If-Range", "Last-Event-ID", "Pragma",
    "Prefer", "Range", "Traceparent", "Tracestate", "User-Agent", "X-Request-Id", "X-Requested-With",
)  # fmt: skip
"""Headers that a page may send: those that routes read, and those that libraries and browsers send on their own."""
EXPOSED = (
    "Accept-Encoding", "Accept-Ranges", "Allow", "Content-Disposition", "Content-Encoding", "Content-Length",
    "Content-Range", "Date", "ETag", "Idempotent-Replayed", "Link", "Location", "Preference-Applied", "RateLimit",
    "RateLimit-Policy", "Retry-After", "WWW-Authenticate", "X-Request-Id",
)  # fmt: skip
"""Headers of answers that a page may read beside those that every page may."""
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
MAX_AGE_S = 7200
"""How long a browser may remember the answer to a preflight; none remembers it longer than Chromium's two hours."""

_TOKEN = re.compile(rb"(?:^|&)token=[^&]")
_KEY = re.compile(rb"(?:^|[, \t])(?:x-api-key|authorization)(?:$|[, \t])")
_ASKED_METHOD = b"access-control-request-method"
_ALLOW_ORIGIN, _RESOURCE_POLICY = b"access-control-allow-origin", b"cross-origin-resource-policy"
_ANY_ORIGIN = [(_ALLOW_ORIGIN, b"*"), (_RESOURCE_POLICY, b"cross-origin")]
_EXPOSE = (b"access-control-expose-headers", ", ".join(EXPOSED).encode())

CLOSED: Headers = [(_RESOURCE_POLICY, b"same-origin")]
"""The headers of an answer that no page of another origin may read or show."""


class OpenRoute(Struct, frozen=True):
    """A path whose URLs let in by the token in their query, and the methods that they do so for."""

    path: re.Pattern[str]
    methods: frozenset[str]


class Cors:
    """Works out the headers that an answer has for pages of other origins."""

    def __init__(self, origins: Iterable[str], routes: Iterable[BaseRoute]) -> None:
        listed = [origin.encode() for origin in origins]
        self._closed = [*CLOSED, (b"vary", b"Origin")] if listed else CLOSED
        self._listed = {origin: [(_ALLOW_ORIGIN, origin), _EXPOSE, *self._closed] for origin in listed}
        self._open = [_open_route(route) for route in routes if isinstance(route, HTTPRoute) and _is_api(route)]

    def headers_of(
        self, method: str, path: str, query: bytes, headers: Mapping[bytes, bytes], caller: Caller | None = None
    ) -> Headers:
        """Return the headers for the answer to a request with these headers by their names in lower case.

        `caller` is whom it was let in as, if it was. The answer to a preflight says what a page may do.
        """
        if method == "OPTIONS" and is_preflight(headers):
            return self._permissions(path, query, headers)
        if b"token=" in query and _has_no_key(headers, caller) and method in self._methods_of(path, query):
            return [*_ANY_ORIGIN, _EXPOSE]
        return self._listed.get(headers.get(b"origin", b""), self._closed)

    def _permissions(self, path: str, query: bytes, headers: Mapping[bytes, bytes]) -> Headers:
        names = headers.get(b"access-control-request-headers", b"").lower()
        methods = frozenset() if _KEY.search(names) else self._methods_of(path, query)
        if headers[_ASKED_METHOD].decode("latin-1") in methods:
            return [*_ANY_ORIGIN, *_allowing(methods, REQUEST_HEADERS)]
        listed = self._listed.get(headers[b"origin"])
        return self._closed if listed is None else [*listed, *_allowing(METHODS, KEY_HEADERS + REQUEST_HEADERS)]

    def _methods_of(self, path: str, query: bytes) -> frozenset[str]:
        """The methods by which this URL lets in by itself."""
        if not _TOKEN.search(query):
            return frozenset()
        return frozenset().union(*(route.methods for route in self._open if route.path.fullmatch(path)))


def is_preflight(headers: Mapping[bytes, bytes]) -> bool:
    """Return whether a browser asks by an OPTIONS with these headers what a page of another origin may do."""
    return b"origin" in headers and _ASKED_METHOD in headers


def _has_no_key(headers: Mapping[bytes, bytes], caller: Caller | None) -> bool:
    is_sent = headers.get(b"x-api-key") or headers.get(b"authorization")
    return not is_sent and (caller is None or caller.id == HOLDER)


def _is_api(route: HTTPRoute) -> bool:
    return route.path_format.startswith(("/v1/", "/replicate/"))


def _open_route(route: HTTPRoute) -> OpenRoute:
    """The route by its methods that are open to whoever has the URL; often none."""
    handlers = [one for one in route.route_handlers if is_let_in_by_url(one.opt) or BY_TOKEN.items() <= one.opt.items()]
    methods = {str(method) for handler in handlers for method in handler.http_methods}
    path = re.sub(r"\\\{[^/]*?\\\}", "[^/]+", re.escape(route.path_format))
    return OpenRoute(re.compile(f"{path}/?"), frozenset(methods | ({"HEAD"} if "GET" in methods else set())))


def _allowing(methods: Iterable[str], headers: Iterable[str]) -> Headers:
    return [
        (b"access-control-allow-methods", ", ".join(sorted(methods)).encode()),
        (b"access-control-allow-headers", ", ".join(headers).encode()),
        (b"access-control-max-age", b"%d" % MAX_AGE_S),
    ]
