"""A TCP proxy between two processes that can be told at run time to act as a bad network."""

import asyncio
import random
import re
import socket
from contextlib import suppress
from urllib.parse import urlsplit

from msgspec import Struct

CHUNK = 64 * 1024
REFUSAL_S = 1.0
"""How long a client may go on sending a request that was refused already."""

_HTTP_REQUEST = re.compile(rb"(GET|HEAD|PUT|POST|DELETE) ")


class Toxic(Struct, frozen=True, kw_only=True):
    """The faults of the network; by default none. Sizes are in bytes, times in seconds."""

    delay_s: float = 0.0
    jitter_s: float = 0.0
    drop: bool = False
    """Drop everything in both directions, with connections left open."""
    drop_replies: float = 0.0
    """Share of replies that are dropped, with everything after them on the same connection."""
    reset_after_requests: int = 0
    """Reset a connection after this many requests (0: never)."""
    reset_new: float = 0.0
    """Share of new connections that are reset at once."""
    refuse_http: float = 0.0
    """Share of HTTP requests that are answered 500 or 503 by the proxy itself, which then closes the connection."""
    bytes_per_s: float = 0.0
    """Speed of each direction of each connection (0: as fast as it goes)."""
    refuse: bool = False
    """Reset every new connection, as a host without that service does."""


PASS = Toxic()
DROP = Toxic(drop=True)
DROP_REPLIES = Toxic(drop_replies=1.0)
REFUSE = Toxic(refuse=True)


class Proxy:
    """Listens on a free port of loopback and passes everything on to `upstream`: `host:port` or the path of a
    socket."""

    def __init__(self, upstream: str, rng: random.Random) -> None:
        self._upstream = upstream
        self._rng = rng
        self._toxic = PASS
        self._pipes: set[_Pipe] = set()
        self._serving: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.port = 0
        self.cut = 0
        """Connections that were reset for having made too many requests."""

    async def start(self) -> None:
        """Starts to listen."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port, limit=CHUNK)
        self.port = self._server.sockets[0].getsockname()[1]

    def url(self, original: str) -> str:
        """Returns the URL that leads through this proxy to the target of the original."""
        parts = urlsplit(original)
        return parts._replace(netloc=f"127.0.0.1:{self.port}").geturl()

    def lead_to(self, upstream: str) -> None:
        """Changes the target of new connections; open ones stay where they are."""
        self._upstream = upstream

    @property
    def connections(self) -> int:
        """The number of open connections."""
        return len(self._pipes)

    def set(self, toxic: Toxic) -> None:
        """Changes the faults from now on. A connection that lost bytes cannot be repaired: it is reset when the
        network recovers."""
        self._toxic = toxic
        if toxic.refuse:
            self.reset_all()
        for pipe in [p for p in self._pipes if p.lossy and not toxic.drop]:
            pipe.reset()

    def reset_all(self) -> None:
        """Cuts every open connection with a TCP reset."""
        for pipe in tuple(self._pipes):
            pipe.reset()

    async def close(self) -> None:
        """Closes the proxy and every connection."""
        if self._server:
            self._server.close()
        self.reset_all()
        for serving in self._serving:
            serving.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)
        await asyncio.sleep(0)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving = asyncio.current_task()
        assert serving is not None
        self._serving.add(serving)
        try:
            await self._serve(reader, writer)
        finally:
            self._serving.discard(serving)
            _reset(writer)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._toxic.refuse or self._rng.random() < self._toxic.reset_new:
            _reset(writer)
            return
        try:
            if self._upstream.startswith("/"):
                upstream = await asyncio.open_unix_connection(self._upstream, limit=CHUNK)
            else:
                host, _, port = self._upstream.rpartition(":")
                upstream = await asyncio.open_connection(host, int(port), limit=CHUNK)
        except OSError:
            _reset(writer)
            return
        pipe = _Pipe((reader, writer), upstream)
        self._pipes.add(pipe)
        try:
            await asyncio.gather(self._requests(pipe), self._replies(pipe))
        except (OSError, RuntimeError, asyncio.CancelledError):
            pass  # uvloop raises RuntimeError if the transport was closed meanwhile
        finally:
            pipe.reset()
            self._pipes.discard(pipe)

    async def _requests(self, pipe: "_Pipe") -> None:
        count = 0
        async for data in _chunks(pipe.client[0]):
            count += 1
            if 0 < self._toxic.reset_after_requests < count:
                pipe.reset()
                self.cut += 1
            pipe.lossy = pipe.lossy or self._toxic.drop
            if _HTTP_REQUEST.match(data) and self._rng.random() < self._toxic.refuse_http:
                await self._refuse(pipe)
                return
            await self._send(pipe, pipe.server[1], data)
        pipe.reset()

    async def _refuse(self, pipe: "_Pipe") -> None:
        """Answers instead of the server, reads the request to its end and hangs up."""
        pipe.deaf = True
        status = self._rng.choice((b"500 Internal Server Error", b"503 Service Unavailable"))
        pipe.client[1].write(b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        with suppress(TimeoutError):
            async with asyncio.timeout(REFUSAL_S):
                async for _ in _chunks(pipe.client[0]):
                    pass
        pipe.reset()

    async def _replies(self, pipe: "_Pipe") -> None:
        async for data in _chunks(pipe.server[0]):
            lost = self._toxic.drop or self._rng.random() < self._toxic.drop_replies
            pipe.lossy = pipe.lossy or lost
            pipe.deaf = pipe.deaf or lost
            if not pipe.deaf:
                await self._send(pipe, pipe.client[1], data)
        pipe.reset()

    async def _send(self, pipe: "_Pipe", writer: asyncio.StreamWriter, data: bytes) -> None:
        toxic = self._toxic
        if toxic.delay_s or toxic.jitter_s:
            await asyncio.sleep(max(0.0, toxic.delay_s + self._rng.uniform(-1, 1) * toxic.jitter_s))
        if pipe.lossy and self._toxic.drop:
            return
        if toxic.bytes_per_s:
            for at in range(0, len(data), step := max(1, int(toxic.bytes_per_s / 10))):
                writer.write(data[at : at + step])
                await asyncio.sleep(0.1)
        else:
            writer.write(data)
        await writer.drain()


class _Pipe:
    """One connection through the proxy. It is `lossy` if it dropped bytes, and `deaf` if it dropped replies."""

    def __init__(
        self,
        client: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        server: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        self.client = client
        self.server = server
        self.lossy = False
        self.deaf = False

    def reset(self) -> None:
        for _, writer in (self.client, self.server):
            _reset(writer)


async def _chunks(reader: asyncio.StreamReader):  # type: ignore[no-untyped-def]
    while data := await reader.read(CHUNK):
        yield data


def _reset(writer: asyncio.StreamWriter) -> None:
    """Closes with RST, by a linger of 0."""
    if writer.transport.is_closing():
        return
    sock = writer.get_extra_info("socket")
    with suppress(OSError, AttributeError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    writer.transport.abort()
