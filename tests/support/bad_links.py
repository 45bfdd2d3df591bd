"""TCP links between a client and a server that fail: silent ones, frozen ones, and ones that change the bytes."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from math import inf
from typing import Any

PIECE = 65_536

Line = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Carry = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]


@asynccontextmanager
async def listening(serve: Callable[[Line], Awaitable[None]]) -> AsyncIterator[str]:
    """Listens on a free port and yields the URL. All connections are closed at the end."""
    serving: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        serving.add(task)
        with suppress(OSError, EOFError, asyncio.CancelledError):
            await serve((reader, writer))
        writer.transport.abort()

    server = await asyncio.start_server(connected, "127.0.0.1", 0, limit=PIECE)
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    server.close()
    for task in serving:
        task.cancel()
    await asyncio.gather(*serving, return_exceptions=True)


async def join(server: str, client: Line, to_server: Carry, to_client: Carry) -> None:
    """Connects a client with the server until one of them hangs up."""
    host, _, port = server.removeprefix("http://").partition(":")
    there = await asyncio.open_connection(host, int(port), limit=PIECE)
    try:
        async with asyncio.TaskGroup() as both:
            both.create_task(to_server(client[0], there[1]))
            both.create_task(to_client(there[0], client[1]))
    except* OSError:
        pass
    finally:
        there[1].transport.abort()


def carrying(most: float = inf, change: Callable[[bytes], bytes] = lambda data: data) -> Carry:
    """Returns a pump that carries this many bytes and then stands still."""

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        left = most
        while data := await reader.read(PIECE):
            left -= len(data)
            if left < 0:
                await asyncio.Event().wait()
            writer.write(change(data))
            await writer.drain()
        raise ConnectionResetError

    return carry


@asynccontextmanager
async def frozen_link(server: str, *, to_server: float, to_client: float, times: float) -> AsyncIterator[str]:
    """Yields the URL of a link whose first connections carry this many bytes each way and then stand still, with
    both ends open."""
    connections = 0

    async def serve(client: Line) -> None:
        nonlocal connections
        connections += 1
        limits = (to_server, to_client) if connections <= times else (inf, inf)
        await join(server, client, *map(carrying, limits))

    async with listening(serve) as url:
        yield url


@asynccontextmanager
async def answering(answer: bytes) -> AsyncIterator[str]:
    """Yields the URL of a server that sends this answer to every request, or nothing at all."""

    async def serve(client: Line) -> None:
        await client[0].readuntil(b"\r\n\r\n")
        if not answer:
            await asyncio.Event().wait()
        client[1].write(answer)
        await client[1].drain()

    async with listening(serve) as url:
        yield url


@asynccontextmanager
async def revoking_link(server: str, api_key: str, *, after_submits: int) -> AsyncIterator[str]:
    """Yields the URL of a link that replaces the API key with an unknown one after this many submits."""
    submits = 0

    def change(data: bytes) -> bytes:
        nonlocal submits
        submits += data.startswith(b"POST /v1/tasks ")
        return data if submits <= after_submits else data.replace(api_key.encode(), b"x" * len(api_key))

    async def serve(client: Line) -> None:
        await join(server, client, carrying(change=change), carrying())

    async with listening(serve) as url:
        yield url
