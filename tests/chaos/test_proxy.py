"""The proxy does what each toxic says."""

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

from tests.chaos.proxy import DROP, DROP_REPLIES, PASS, REFUSE, Proxy, Toxic

Line = tuple[asyncio.StreamReader, asyncio.StreamWriter]
OPEN: list[Line] = []
"""The open connections of the test."""


@pytest.fixture
async def heard() -> list[bytes]:
    """The bytes that reached the server behind the proxy."""
    return []


@pytest.fixture
async def proxy(heard: list[bytes]) -> AsyncIterator[Proxy]:
    """A proxy in front of an echo server."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(1000):
                heard.append(data)
                writer.write(data)
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    proxy = Proxy(f"127.0.0.1:{server.sockets[0].getsockname()[1]}", random.Random(1))
    await proxy.start()
    yield proxy
    await proxy.close()
    for _, writer in OPEN:
        writer.close()
    OPEN.clear()
    server.close()
    await asyncio.sleep(0.05)


async def ask(line: Line, timeout_s: float = 0.3) -> bytes:
    """Returns the answer, or b"" when the connection is closed."""
    line[1].write(b"hello")
    async with asyncio.timeout(timeout_s):
        return await line[0].read(1000)


async def open_line(proxy: Proxy) -> Line:
    line = await asyncio.open_connection("127.0.0.1", proxy.port)
    OPEN.append(line)
    return line


async def test_passes_everything_on(proxy: Proxy) -> None:
    line = await open_line(proxy)

    assert await ask(line) == b"hello"
    assert proxy.connections == 1


async def test_drops_both_ways_and_resets_what_lost_bytes_when_healed(proxy: Proxy, heard: list[bytes]) -> None:
    line = await open_line(proxy)
    proxy.set(DROP)

    with pytest.raises(TimeoutError):
        await ask(line)
    assert heard == []
    proxy.set(PASS)
    with pytest.raises(ConnectionError):
        await ask(line)
    assert await ask(await open_line(proxy)) == b"hello"


async def test_drops_replies_only(proxy: Proxy, heard: list[bytes]) -> None:
    line = await open_line(proxy)
    proxy.set(DROP_REPLIES)

    with pytest.raises(TimeoutError):
        await ask(line)
    assert heard == [b"hello"]


async def test_resets_after_some_requests(proxy: Proxy) -> None:
    line = await open_line(proxy)
    proxy.set(Toxic(reset_after_requests=2))

    assert await ask(line) == await ask(line) == b"hello"
    with pytest.raises(ConnectionError):
        await ask(line)


async def test_refuses_and_cuts(proxy: Proxy) -> None:
    line = await open_line(proxy)
    await ask(line)
    proxy.set(REFUSE)

    with pytest.raises(ConnectionError):
        await ask(line)
    with pytest.raises(ConnectionError):
        await ask(await open_line(proxy))


@pytest.mark.parametrize(
    ("toxic", "least_s"), [(Toxic(delay_s=0.1), 0.2), (Toxic(bytes_per_s=20), 0.2)], ids=["late", "slow"]
)
async def test_delays(proxy: Proxy, toxic: Toxic, least_s: float) -> None:
    line = await open_line(proxy)
    proxy.set(toxic)
    started = time.monotonic()

    line[1].write(b"hello")
    await line[0].readexactly(5)

    assert time.monotonic() - started >= least_s
