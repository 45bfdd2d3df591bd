"""What a view of the console costs: no more commands of Redis, however many tasks there are."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from penstock.store import Store
from tests.support.drive import body
from tests.support.monitor import counted

pytestmark = pytest.mark.shared_server

VIEWS = ["/", "/tasks", "/tasks?status=PENDING", "/tasks?priority=high", "/tasks?entry=no%3Dsuch", "/find?id=tsk_ffff"]
LOOKED_AT = {"/tasks?priority=high": 1100, "/tasks?entry=no%3Dsuch": 2100}
"""A filter looks at a thousand tasks, each by one command, or by two for its metadata; a page shows fifty."""
OF_UPKEEP = 40
"""Commands that the rounds of the server may send meanwhile."""


@pytest.fixture
async def browser(server: str, api_key: str) -> AsyncIterator[httpx.AsyncClient]:
    """Is logged in."""
    async with httpx.AsyncClient(base_url=server, timeout=30, verify=False) as opened:
        await opened.post("/console/login", data={"key": api_key})
        yield opened


async def commands_of(browser: httpx.AsyncClient, redis_url: str, path: str) -> int:
    async with counted(redis_url) as commands:
        answer = await browser.get(f"/console{path}")
    assert answer.status_code in (200, 303), answer.text
    return sum(commands.values())


async def test_a_view_reads_no_more_where_there_are_more_tasks(
    browser: httpx.AsyncClient, client: httpx.AsyncClient, store: Store, redis_url: str
) -> None:
    await asyncio.gather(*(client.post("/v1/tasks", json=body()) for _ in range(60)))
    before = {path: await commands_of(browser, redis_url, path) for path in VIEWS}
    pending = store.engine.keys.state("default", "PENDING")
    (task_id, created), *_ = await store.engine.client.zrange(pending, 0, 0, withscores=True)
    fields = await store.engine.client.hgetall(store.engine.keys.task(task_id.decode()))
    many = {f"tsk_{n:032x}": created - n - 1 for n in range(5000)}
    pipe = store.engine.client.pipeline(transaction=False)
    for name in many:
        pipe.hset(store.engine.keys.task(name), mapping=fields)
    pipe.zadd(pending, many)
    await pipe.execute()

    after = {path: await commands_of(browser, redis_url, path) for path in VIEWS}

    assert {path: n for path, n in after.items() if n > OF_UPKEEP + LOOKED_AT.get(path, before[path])} == {}
