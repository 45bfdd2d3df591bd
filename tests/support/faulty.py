"""A proxy between the storage and its S3 server that can be told to be silent, to stall, to lie or to refuse."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit

from msgspec import Struct

PIECE = 64 * 1024


class Fault(Struct, frozen=True, kw_only=True):
    """What the proxy does wrong; by default nothing. It affects requests with one of the `methods` (empty: all), with
    `match` in their path and with `header`, in lower case, unless that is empty."""

    methods: tuple[str, ...] = ()
    match: str = ""
    header: str = ""
    silent: bool = False
    """Read the head of the request and never answer."""
    stall_after: int = 0
    """Ask for the body, take this many bytes of it, and no more."""
    answer: bytes = b""
    """Answer with these bytes, in place of the server."""
    trickle: float = 0.0
    """Pass on the body of the answer byte by byte, with this pause in seconds between two."""


class Peer:
    """A proxy on a free port. Each connection serves one request."""

    def __init__(self, upstream: str) -> None:
        self._upstream = urlsplit(upstream)
        self._server: asyncio.Server | None = None
        self._held: set[asyncio.Task[None]] = set()
        self.fault = Fault()
        self.seen: list[str] = []
        """`METHOD path` of every request."""
        self.url = ""

    async def start(self) -> None:
        """Starts to listen."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def close(self) -> None:
        """Drops every connection."""
        if self._server:
            self._server.close()
        for task in self._held:
            task.cancel()
        await asyncio.gather(*self._held, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._held.add(task)
        try:
            with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await self._serve(reader, writer)
        finally:
            self._held.discard(task)
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        line, *fields = head.decode("latin-1").split("\r\n")
        headers = {name.strip().lower(): value.strip() for name, _, value in (field.partition(":") for field in fields)}
        method, path, _ = line.split(" ", 2)
        self.seen.append(f"{method} {path}")
        fault = self.fault
        is_meant = fault.match in path and (not fault.header or fault.header in headers)
        if not is_meant or (fault.methods and method not in fault.methods):
            fault = Fault()
        if fault.silent:
            await asyncio.sleep(3600)
        if "expect" in headers:
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        size = int(headers.get("content-length") or 0)
        if fault.stall_after:
            await reader.readexactly(min(size, fault.stall_after))
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            await asyncio.sleep(3600)
        body = await reader.readexactly(size)
        if fault.answer:
            writer.write(fault.answer if method != "HEAD" else fault.answer.partition(b"\r\n\r\n")[0] + b"\r\n\r\n")
            await writer.drain()
            return
        await self._forward(line, headers, body, writer, fault)

    async def _forward(
        self, line: str, headers: dict[str, str], body: bytes, writer: asyncio.StreamWriter, fault: Fault
    ) -> None:
        upstream, server = await asyncio.open_connection(self._upstream.hostname, self._upstream.port)
        try:
            kept = [f"{name}: {value}" for name, value in headers.items() if name not in ("", "expect", "connection")]
            server.write("\r\n".join([line, *kept, "connection: close", "", ""]).encode("latin-1") + body)
            await server.drain()
            writer.write(await upstream.readuntil(b"\r\n\r\n"))
            while piece := await upstream.read(1 if fault.trickle else PIECE):
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(fault.trickle)
            writer.close()
            await writer.wait_closed()
        finally:
            server.transport.abort()


@asynccontextmanager
async def peer_of(upstream: str) -> AsyncIterator[Peer]:
    """Yields a proxy in front of this endpoint, and closes it at the end."""
    peer = Peer(upstream)
    await peer.start()
    try:
        yield peer
    finally:
        await peer.close()


def http(status: str, body: str, content_type: str = "application/xml", *headers: str) -> bytes:
    """Returns an HTTP response that ends its connection."""
    lines = [f"HTTP/1.1 {status}", f"content-type: {content_type}", f"content-length: {len(body)}", *headers]
    return "\r\n".join([*lines, "connection: close", "", body]).encode()
