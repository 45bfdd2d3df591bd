"""A TLS proxy in front of a server, like those of operators: it has a certificate and passes bytes on unchanged."""

import asyncio
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import trustme


class Front:
    """The URL for clients, the file of the CA that they must trust, and the URL of the server behind."""

    def __init__(self, directory: Path) -> None:
        self.authority = directory / "authority.pem"
        authority = trustme.CA()
        authority.cert_pem.write_to_path(self.authority)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("localhost").configure_cert(self.context)
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"https://localhost:{self.socket.getsockname()[1]}"
        self.behind = ""

    async def serve(self, stop: asyncio.Event) -> None:
        """Passes connections on until it is stopped."""
        server = await asyncio.start_server(self._pass_on, sock=self.socket, ssl=self.context)
        await stop.wait()
        server.close()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        place = urlsplit(self.behind)
        from_server, to_server = await asyncio.open_connection(place.hostname, place.port)
        with suppress(OSError):
            await asyncio.gather(_copy(reader, to_server), _copy(from_server, writer))


@contextmanager
def tls_front(directory: Path) -> Iterator[Front]:
    """Listens at once. Set `behind` before its first use."""
    front, loop, stop = Front(directory), asyncio.new_event_loop(), asyncio.Event()

    def serve() -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(front.serve(stop))

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield front
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()
