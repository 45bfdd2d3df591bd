"""Certificates are read once for all connections to Redis, and anew when a file has changed."""

import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from penstock.errors import StoreUnavailable
from penstock.settings import QueueSettings, RedisSettings
from penstock.store import Engine, Store, connect
from tests.support.set_up_servers import Certificates, certificates, redis_with, tls_options


@pytest.fixture
def made(tmp_path: Path) -> Certificates:
    return certificates(tmp_path)


@pytest.fixture
def url(made: Certificates, tmp_path: Path) -> Iterator[str]:
    with redis_with(tmp_path, *tls_options(made)) as port:
        yield f"rediss://127.0.0.1:{port}"


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """Grows each time that the CAs of this machine are read."""
    times: list[None] = []
    really = ssl.create_default_context

    def noted(*arguments: Any, **options: Any) -> ssl.SSLContext:
        times.append(None)
        return really(*arguments, **options)

    monkeypatch.setattr(ssl, "create_default_context", noted)
    return times


async def asked(url: str, ca: Path) -> None:
    """Opens a connection of its own, and asks for a task that is not there."""
    settings = RedisSettings(url=url, tls_ca=str(ca))
    async with connect(settings) as client:
        assert not await Store(Engine(client, "tls", QueueSettings())).tasks.ended(["tsk_nobody"])


async def test_many_connections_read_the_certificates_once(url: str, made: Certificates, read: list[None]) -> None:
    for _ in range(5):
        await asked(url, made.ca)

    assert len(read) == 1


async def test_a_file_that_is_missing_or_no_certificate_is_not_read_again_at_each_try(
    url: str, made: Certificates, tmp_path: Path, read: list[None]
) -> None:
    (tmp_path / "damaged.crt").write_text("no certificate")

    for name, times in (("missing.crt", 0), ("damaged.crt", 1)):
        read.clear()
        for _ in range(5):
            with pytest.raises(StoreUnavailable):
                await asked(url, tmp_path / name)
        assert len(read) == times, name


async def test_a_file_that_is_mended_is_used_from_the_next_connection_on(
    url: str, made: Certificates, tmp_path: Path
) -> None:
    file = tmp_path / "renewed.crt"
    file.write_text("no certificate")
    with pytest.raises(StoreUnavailable):
        await asked(url, file)

    file.write_bytes(made.ca.read_bytes())

    await asked(url, file)
