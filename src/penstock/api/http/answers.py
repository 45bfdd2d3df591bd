"""Answers in JSON, encoded once and sent as they are."""

from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec
from litestar import Response
from litestar.types import ASGIApp, Receive, Scope, Send
from litestar.types.asgi_types import HTTPResponseBodyEvent, HTTPResponseStartEvent

T = TypeVar("T")

NOT_MODIFIED = 304


class JsonAnswer(Response[T]):
    """An answer with this content as JSON; without a body where the status allows none.

    Litestar makes another response of its own, and adds the headers to that one by one: 30 calls more.
    """

    def __init__(self, content: T, *, headers: Mapping[str, str], status_code: int = 200) -> None:
        self.content, self._status = content, status_code
        self._body = b"" if status_code == NOT_MODIFIED else msgspec.json.encode(content)
        self._headers = [] if status_code == NOT_MODIFIED else [_JSON, (b"content-length", b"%d" % len(self._body))]
        for name, value in headers.items():
            self._headers.append((name.lower().encode("latin-1"), value.encode("latin-1")))

    def to_asgi_response(self, *_: Any, **__: Any) -> ASGIApp:  # type: ignore[override]
        """Return this answer, whatever the handler declares: status and headers are here."""
        return self

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send status, headers and body, in the two messages of ASGI."""
        await send(HTTPResponseStartEvent(type="http.response.start", status=self._status, headers=self._headers))
        await send(HTTPResponseBodyEvent(type="http.response.body", body=self._body, more_body=False))


_JSON = (b"content-type", b"application/json")
