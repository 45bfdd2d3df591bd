"""An API server in the process of the tests, and clients of it.

Each test has a server of its own, unless its module is marked `shared_server`: what a server costs is its start, and
there one is kept for all tests that want the same settings. Between two of them its namespace and its folder are
emptied under it. What a server keeps in its memory stays: a module that looks at that must not share one, nor a test
that takes the folder away, which is marked `shared_server(False)`.
"""

import os
import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest

from penstock.api import services
from penstock.settings import Settings
from penstock.storage import MARKER
from tests.support import api_server, redis_server

OF_THE_SERVER = (MARKER, "probe", ".unfinished")


@pytest.fixture(scope="module")
def kept(request: pytest.FixtureRequest) -> Iterator[api_server.Kept]:
    with api_server.Kept() as kept:
        yield kept


@pytest.fixture(scope="module")
def shared_namespace() -> str:
    return f"test-{secrets.token_hex(8)}"


@pytest.fixture(scope="module")
def shared_objects(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("objects")


def shares(request: pytest.FixtureRequest) -> bool:
    """Whether the module is marked `shared_server`, and the test not `shared_server(False)`."""
    marker = request.node.get_closest_marker("shared_server")
    return marker is not None and marker.args != (False,)


@pytest.fixture
def namespace(request: pytest.FixtureRequest, redis_url: str, shared_namespace: str) -> Iterator[str]:
    """Empty at first; emptied afterwards."""
    name = shared_namespace if shares(request) else f"test-{secrets.token_hex(8)}"
    yield name
    redis_server.remove_namespace(redis_url, name)


@pytest.fixture
def objects(request: pytest.FixtureRequest, namespace: str, tmp_path: Path, shared_objects: Path) -> Iterator[Path]:
    """Empty at first; emptied afterwards, but for what the server itself keeps there or is about to read."""
    if not shares(request):
        yield tmp_path / "objects"
        return
    yield shared_objects
    root = shared_objects / namespace
    # `rglob` raises where the server deletes a folder meanwhile, as at the end of its look at the storage.
    for file in (Path(folder) / name for folder, _, names in os.walk(root) for name in names):
        if not file.relative_to(root).as_posix().startswith(OF_THE_SERVER):
            file.unlink(missing_ok=True)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No request gives Redis up, however busy the machine is: for a module whose acts cannot be repeated."""
    monkeypatch.setattr(services, "PATIENCE_S", 60.0)


@pytest.fixture
def server(request: pytest.FixtureRequest, settings: Settings) -> Iterator[str]:
    """URL of a server with the settings of this test."""
    if shares(request):
        yield request.getfixturevalue("kept").url_of(settings)
        return
    with api_server.in_thread(settings) as url:
        yield url


@pytest.fixture
async def client(server: str, api_key: str) -> AsyncIterator[httpx.AsyncClient]:
    """Sends the key with every request."""
    async with httpx.AsyncClient(base_url=server, headers={"X-API-Key": api_key}, timeout=30, verify=False) as opened:
        yield opened


@pytest.fixture
async def stranger(server: str) -> AsyncIterator[httpx.AsyncClient]:
    """Has no key."""
    async with httpx.AsyncClient(base_url=server, timeout=30, verify=False) as opened:
        yield opened
