"""What the tests of whole processes use: an API server, and clients of it."""

from collections.abc import AsyncIterator, Iterator
from importlib.util import find_spec

import httpx
import pytest

from penstock.settings import Settings
from tests import api_server

if find_spec("tests.integration.s3_server") and find_spec("botocore"):
    from tests.integration.s3_server import s3_server  # noqa: F401  a fixture


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
