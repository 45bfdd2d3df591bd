"""A client of HTTP that costs little, so that it does not decide what a server reaches on a machine of two cores."""

import asyncio
from urllib.parse import urlsplit


class CompareError(Exception):
    """A server does not do what it is compared for."""


class Unavailable(CompareError):
    """A server asks for the request to be sent again (503)."""


class HttpConnection(asyncio.Protocol):
    """One connection that is kept open, for one request at a time. It understands answers with a Content-Length."""

    def __init__(self, server: str, url: str) -> None:
        self._server = server
        address = urlsplit(url)
        self._host, self._port = address.hostname or "", address.port or 80
        self._transport: asyncio.Transport | None = None
        self._received = b""
        self._answer: asyncio.Future[bytes] | None = None

    async def send(self, request: bytes) -> bytes:
        """Sends a request and returns the body of its answer.

        Raises OSError where there is no answer, and CompareError where it is one of an error.
        """
        loop = asyncio.get_running_loop()
        if self._transport is None or self._transport.is_closing():
            self._transport, _ = await loop.create_connection(lambda: self, self._host, self._port)
        self._answer, self._received = loop.create_future(), b""
        self._transport.write(request)
        return await self._answer

    def close(self) -> None:
        """Closes the connection."""
        if self._transport is not None:
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        """Takes a part of an answer."""
        self._received += data
        head, ended, body = self._received.partition(b"\r\n\r\n")
        if self._answer is None or self._answer.done() or not ended:
            return
        length = _length(head)
        if length is not None and len(body) < length:
            return
        if head[9:10] == b"2" and length is not None:
            self._answer.set_result(body)
        else:
            error = Unavailable if head[9:12] == b"503" else CompareError
            self._answer.set_exception(error(f"{self._server} answers {head.decode()!r} {body.decode()[:500]}"))

    def connection_lost(self, exc: Exception | None) -> None:
        """Ends a request that waits for its answer."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionResetError("the server has closed the connection"))


def _length(head: bytes) -> int | None:
    rest = head.lower().partition(b"content-length:")[2]
    digits = rest.partition(b"\r\n")[0]
    return int(digits) if digits.strip() else None


def encoded(method: str, path: str, headers: dict[str, str], body: bytes = b"") -> bytes:
    """Returns a request as it is sent."""
    sent = {"host": "127.0.0.1", "content-length": str(len(body)), "content-type": "application/json"} | headers
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in sent.items())]
    return "\r\n".join([*lines, "", ""]).encode() + body
