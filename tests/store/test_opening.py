"""What a process looks at before it relies on a Redis that comes after it."""

from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest

from penstock.errors import ConfigurationError, StoreUnavailable
from penstock.intake.models import WatchedCatalogue
from penstock.settings import QueueSettings, RedisSettings
from penstock.store import Opening, Shards, connect_each, settle_count
from tests.support.redis_server import RedisProcess, binary

pytestmark = pytest.mark.skipif(binary() is None, reason="no redis-server or valkey-server to start late")

NAMESPACE = "late"


@pytest.fixture
def late(tmp_path: Path) -> Iterator[RedisProcess]:
    """A server that keeps what it has, and does not run."""
    with RedisProcess(tmp_path, appendonly="yes", appendfsync="always") as server:
        server.kill()
        yield server


@asynccontextmanager
async def opening_of(server: RedisProcess, shards: int = 1) -> AsyncIterator[tuple[Opening, Shards]]:
    settings = RedisSettings(url=server.url, namespace=NAMESPACE, shards=shards)
    async with connect_each(settings) as clients, aclosing(Opening(clients)) as opening:
        yield opening, Shards.over(clients, QueueSettings())


async def test_a_server_that_comes_late_is_opened_when_it_is_there(late: RedisProcess) -> None:
    async with opening_of(late) as (opening, shards):
        await opening.tried()
        assert not opening.is_home_open
        late.start()
        await opening.all()
        assert opening.is_home_open
        await shards.ping()


async def test_a_server_that_comes_late_with_another_number_of_shards_is_not_used(late: RedisProcess) -> None:
    late.start()
    async with connect_each(RedisSettings(url=late.url, namespace=NAMESPACE, shards=4)) as clients:
        await settle_count(clients)
    late.kill()

    async with opening_of(late, shards=3) as (opening, shards):
        models = WatchedCatalogue(shards.home.models, may_read=lambda: opening.is_home_open)
        await opening.tried()
        late.start()
        with pytest.raises(ConfigurationError, match="is 3, and this installation was made with 4"):
            await opening.home()
        assert not opening.is_home_open
        with pytest.raises(StoreUnavailable):
            await models.read()
