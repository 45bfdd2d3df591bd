"""What cursors and the links of outputs are signed with is random, shared by all servers, and none of the keys."""

import string

import httpx
import msgspec
import pytest

from penstock.api.http.cursors import Cursors
from penstock.errors import InvalidRequest
from penstock.settings import Settings
from tests.support import api_server, redis_server
from tests.support.drive import body


async def test_a_cursor_outlives_a_change_of_the_keys(
    settings: Settings, server: str, client: httpx.AsyncClient
) -> None:
    for _ in range(2):
        (await client.post("/v1/tasks", json=body())).raise_for_status()
    cursor = (await client.get("/v1/tasks?limit=1")).json()["next_cursor"]
    keys = msgspec.structs.replace(settings.api, keys=("default:another-key-of-the-tests",))

    with api_server.in_thread(msgspec.structs.replace(settings, api=keys), is_published=False) as url:
        headers = {"X-API-Key": "another-key-of-the-tests"}
        async with httpx.AsyncClient(base_url=url, headers=headers, trust_env=False) as other:
            answer = await other.get("/v1/tasks", params={"cursor": cursor})

    assert len(answer.raise_for_status().json()["data"]) == 1


async def test_installations_with_the_same_keys_do_not_take_each_others_cursors(
    settings: Settings, client: httpx.AsyncClient
) -> None:
    for _ in range(2):
        (await client.post("/v1/tasks", json=body())).raise_for_status()
    cursor = (await client.get("/v1/tasks?limit=1")).json()["next_cursor"]
    elsewhere = msgspec.structs.replace(settings.redis, namespace=f"{settings.redis.namespace}-b")

    with api_server.in_thread(msgspec.structs.replace(settings, redis=elsewhere)) as url:
        async with httpx.AsyncClient(base_url=url, headers=client.headers, trust_env=False) as other:
            answer = await other.get("/v1/tasks", params={"cursor": cursor})

    redis_server.remove_namespace(settings.redis.url, elsewhere.namespace)
    assert (answer.status_code, answer.json()["param"]) == (422, "cursor")


def test_a_cursor_has_one_spelling() -> None:
    cursors = Cursors(lambda: b"s" * 32)
    cursor = cursors.write(1_800_000_000_000_000, "acme")

    assert cursors.read(cursor, "acme") == 1_800_000_000_000_000
    for other in {cursor[:-1] + char for char in string.ascii_letters + string.digits + "-_="} - {cursor}:
        with pytest.raises(InvalidRequest):
            cursors.read(other, "acme")
