"""An API server in the process of the tests, and clients of it."""

from collections.abc import AsyncIterator, Iterator

import httpx
import pytest

from penstock.settings import Settings
from tests.support import api_server


@pytest.fixture
def server(settings: Settings) -> Iterator[str]:
    """URL of a server with the settings of this test."""
    with api_server.in_thread(settings) as url:
        yield url


@pytest.fixture
async def client(server: str, api_key: str) -> AsyncIterator[httpx.AsyncClient]:
    """Sends the key with every request."""
    async with httpx.AsyncClient(base_url=server, headers={"X-API-Key": api_key}, timeout=30) as opened:
        yield opened


@pytest.fixture
async def stranger(server: str) -> AsyncIterator[httpx.AsyncClient]:
    """Has no key."""
    async with httpx.AsyncClient(base_url=server, timeout=30) as opened:
        yield opened
