"""The connections to the storage: a dead one ends soon, and takes with it the idle ones, which may be dead too."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from penstock.settings import StorageSettings
from penstock.storage import open_storage
from penstock.storage.s3_connections import SILENT_S, S3Connections, _socket

KEY = "results/tenant/task/1.png"
HEAD = b'HTTP/1.1 200 OK\r\nContent-Length: 5\r\nETag: "e"\r\nLast-Modified: Thu, 01 Jan 2026 00:00:00 GMT\r\n\r\n'


class Server:
    """Answers HEAD. Once `is_cut`, connections of before are ended at their next request."""

    def __init__(self) -> None:
        self.connections = self.ended = 0
        self.is_cut = False
        self.both = asyncio.Barrier(2)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        is_old = not self.is_cut
        with suppress(asyncio.IncompleteReadError, ConnectionError):  # until the client closes it
            while await reader.readuntil(b"\r\n\r\n"):
                if is_old and self.is_cut:
                    self.ended += 1
                    writer.transport.abort()
                    return
                if is_old:
                    await self.both.wait()  # so that two calls take two connections
                writer.write(HEAD)
        writer.close()


@asynccontextmanager
async def running() -> AsyncIterator[tuple[Server, StorageSettings]]:
    served = Server()
    server = await asyncio.start_server(served.serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        keys = {"s3_bucket": "b", "s3_access_key": "k", "s3_secret_key": "s"}
        yield served, StorageSettings(local=False, s3_endpoint=f"http://127.0.0.1:{port}", **keys)


async def test_when_a_connection_has_failed_no_idle_one_of_before_is_used_again() -> None:
    async with running() as (server, settings), open_storage(settings, "tests") as storage:
        await asyncio.gather(storage.size(KEY), storage.size(KEY))
        assert server.connections == 2
        server.is_cut = True

        assert await storage.size(KEY) == 5

        assert (server.ended, server.connections) == (1, 3)


def test_a_connection_on_which_nothing_is_acknowledged_ends_by_itself() -> None:
    with _socket((socket.AF_INET, socket.SOCK_STREAM, 0, "", ())) as made:
        assert made.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == SILENT_S * 1000


async def test_every_connection_of_a_client_is_such_a_one() -> None:
    async with S3Connections() as session:
        connector = session._create_connector(None)
        assert connector._socket_factory is _socket
        await connector.close()
